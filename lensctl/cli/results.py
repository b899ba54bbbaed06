"""Search matches handed to the room that shows them."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lensctl.cli.terminal import prepare_places

if TYPE_CHECKING:
    from lensctl.library.search import Match
    from lensctl.show.result import Result


def as_results(matches: "Sequence[Match]") -> "list[Result]":
    """What is shown of matches, with the names of the places where they were taken."""
    from lensctl.show.result import Result

    return [
        Result(
            path=match.facts.path,
            score=match.relevance,
            cosine=match.cosine,
            copies=match.facts.copies,
            offline=match.facts.offline,
            width=match.facts.width,
            height=match.facts.height,
            format=match.facts.format,
            taken=match.facts.taken,
            camera=match.facts.camera,
            latitude=match.facts.latitude,
            longitude=match.facts.longitude,
            place=_place(match.facts.latitude, match.facts.longitude),
            keywords=match.facts.keywords,
            rating=match.facts.rating,
            content_hash=match.facts.content_hash,
        )
        for match in matches
    ]


def _place(latitude: float | None, longitude: float | None) -> str | None:
    if latitude is None or longitude is None:
        return None
    from lensctl.photos.places import place_name

    prepare_places()
    return place_name(latitude, longitude)


def print_results(
    asked: Mapping[str, str],
    results: "Sequence[Result]",
    *,
    as_json: bool = False,
    paths: bool = False,
    null: bool = False,
    thumbs: bool = False,
    first: int = 1,
) -> None:
    """Results on stdout, as they were asked for: JSON, paths, or a table numbered from `first`."""
    if as_json:
        from lensctl.show.json_output import to_json

        print(to_json(asked, results))
    elif paths or null:
        from lensctl.show.paths import write_paths

        write_paths(results, sys.stdout.buffer, null=null)
    else:
        from lensctl.show.table import print_table

        if thumbs and results:
            print_thumbnails(results, first)
        print_table(results, sys.stdout, first=first)


def print_thumbnails(results: "Sequence[Result]", first: int = 1) -> None:
    """A grid of thumbnails where a terminal can show one, else nothing."""
    from lensctl.show.terminal_grid import can_show, print_grid

    if can_show(sys.stdout):
        from lensctl.show.thumb_cache import user_cache

        print_grid(results, sys.stdout, user_cache(), first=first)
