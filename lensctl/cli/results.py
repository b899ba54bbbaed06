"""Search matches handed to the room that shows them."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensctl.library.search import Match
    from lensctl.show.result import Result


def as_results(matches: "Sequence[Match]") -> "list[Result]":
    """What is shown of matches."""
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
            keywords=match.facts.keywords,
            rating=match.facts.rating,
        )
        for match in matches
    ]


def print_results(
    asked: Mapping[str, str],
    results: "Sequence[Result]",
    *,
    as_json: bool = False,
    paths: bool = False,
    null: bool = False,
) -> None:
    """Results on stdout, as they were asked for: JSON, paths, or a table."""
    if as_json:
        from lensctl.show.json_output import to_json

        print(to_json(asked, results))
    elif paths or null:
        from lensctl.show.paths import write_paths

        write_paths(results, sys.stdout.buffer, null=null)
    else:
        from lensctl.show.table import print_table

        print_table(results, sys.stdout)
