"""`lensctl status`: what the library holds, where, and what could not be read."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption
from lensctl.cli.terminal import count, note
from lensctl.config import config_path, load_settings
from lensctl.errors import NoLibraryError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.library import Library


def status(
    errors: Annotated[
        bool, typer.Option("--errors", help="List the photos that cannot be read, with reasons.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    library: LibraryOption = None,
) -> None:
    """Show what the library holds."""
    folder = load_settings(library=library).library
    try:
        place = existing_library(folder)
    except NoLibraryError:
        note(f"config    {show_path(os.fsencode(config_path()))}")
        raise
    facts = _facts(place)
    if as_json:
        from lensctl.show.json_output import with_paths

        print(json.dumps(with_paths(facts)))
    elif errors:
        for one in facts["errors"]:
            print(f"{show_path(one['path'])}: {one['reason']}")
    else:
        _print(facts)


def _facts(place: "Library") -> dict[str, Any]:
    """As docs/json.md names them; paths are bytes."""
    with place.reading() as catalog:
        model = catalog.fact("model")
        states = catalog.state_counts()
        lens_id = catalog.lens_in_use()
        states["unencoded"] = 0 if lens_id is None else catalog.photos_without_target(lens_id)
        return {
            "library": os.fsencode(place.folder),
            "config": os.fsencode(config_path()),
            "bytes": sum(one.stat().st_size for one in place.folder.rglob("*") if one.is_file()),
            "model": model,
            "models": catalog.models(),
            "superseded": [name for name in catalog.models() if catalog.versions(name)[1:]],
            "photos": states,
            "roots": [
                {"path": path, "photos": number, "offline": offline, "indexed": when}
                for path, number, offline, when in catalog.root_facts()
            ],
            "errors": [{"path": path, "reason": reason} for path, reason in catalog.errors()],
        }


def _print(facts: dict[str, Any]) -> None:
    photos = facts["photos"]
    print(f"library   {show_path(facts['library'])} ({facts['bytes'] / 1e6:,.1f} MB)")
    print(f"config    {show_path(facts['config'])}")
    print(f"model     {facts['model']} (vectors of: {', '.join(facts['models'])})")
    told = {**photos, f"not encoded by {facts['model']} yet": photos["unencoded"]}
    details = [
        f"{n:,} {name}" for name, n in told.items() if name not in ("searchable", "unencoded") and n
    ]
    extra = f" ({', '.join(details)})" if details else ""
    print(f"photos    {photos['searchable']:,} searchable{extra}")
    for root in facts["roots"]:
        offline = f", {root['offline']:,} offline" if root["offline"] else ""
        when = f", last indexed {root['indexed']} UTC" if root["indexed"] else ""
        print(
            f"folder    {show_path(root['path'])}: {count(root['photos'], 'photo')}{offline}{when}"
        )
    if facts["superseded"]:
        names = ", ".join(facts["superseded"])
        print(f"vectors of earlier versions of {names} are dropped by: lensctl forget --superseded")
    if facts["errors"]:
        print("unreadable photos are listed by: lensctl status --errors")
