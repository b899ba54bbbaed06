"""`lensctl models`: list, info, convert, pull, remove."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensctl.cli.options import read_path
from lensctl.cli.terminal import note
from lensctl.errors import ModelError, UsageError
from lensctl.show.names import show_text

if TYPE_CHECKING:
    from lensctl.models.folder import ModelFolder
    from lensctl.models.interface import ModelInfo
    from lensctl.models.registry import ListedModel

models = typer.Typer(
    help="See, get, convert and remove models.", no_args_is_help=True, rich_markup_mode=None
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameOption = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="Name of the model to make.", show_default=False),
]
BackboneOption = Annotated[
    str,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="open_clip model, for CLIP weights that do not tell theirs.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model of the same name.")
]


@models.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the models that are here, and those that can be pulled."""
    from lensctl.models.registry import list_models

    listed = list_models()
    if as_json:
        print(json.dumps([_row(model) for model in listed]))
        return
    width = max(len(model.name) for model in listed)
    for model in listed:
        state = model.problem or ("here" if model.present else "not here")
        print(f"{model.name:<{width}}  {show_text(state):<8}  {show_text(model.description)}")
    if any(not model.present for model in listed):
        note("get one with: lensctl models pull NAME")


@models.command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name or folder.")],
    check: Annotated[
        bool, typer.Option("--check", help="Compare every file with its recorded sha256.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a model is: sizes, fingerprints, source, licence."""
    from lensctl.models.registry import open_model

    model = open_model(name)
    if check:
        _check_files(model)
    facts = _facts(model.info)
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        print(f"{show_text(key):<20}  {show_text(str(value))}")


@models.command()
def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A published MagicLens .pkl, or CLIP weights in .safetensors.",
            parser=read_path,
        ),
    ],
    name: NameOption = "",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="JSON",
            help="Dimensions beside the weights: a side file, or a transformers config.json.",
            show_default=False,
            parser=read_path,
        ),
    ] = None,
    backbone: BackboneOption = "",
    sum_weight: Annotated[
        float,
        typer.Option(
            "--sum-weight",
            metavar="WEIGHT",
            help="Weight of the words in the sum fusion.",
            show_default=False,
        ),
    ] = 1.0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a model folder of a weights file. Nothing in the file is executed."""
    from lensctl.models.convert.convert import Conversion
    from lensctl.models.convert.convert import convert as convert_file

    wanted = Conversion(
        file,
        name=name,
        side_file=config,
        backbone=backbone,
        sum_weight=sum_weight,
        overwrite=overwrite,
    )
    _announce(convert_file(wanted))


@models.command()
def pull(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A name of `models list`, open_clip:MODEL/TAG, a URL or a path."
        ),
    ],
    name: NameOption = "",
    backbone: BackboneOption = "",
    sha256: Annotated[
        str,
        typer.Option(
            "--sha256", metavar="HASH", help="Expected hash of the file.", show_default=False
        ),
    ] = "",
    keep_download: Annotated[
        bool, typer.Option("--keep-download", help="Keep the downloaded file.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Download a model and convert it. Interrupted downloads go on where they stopped."""
    from tqdm import tqdm

    from lensctl.models.convert.pull import pull as pull_model

    with tqdm(unit="B", unit_scale=True, desc=what, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.n = done
            bar.update(0)

        def tell(why: str, seconds: float) -> None:
            tqdm.write(f"{why}; trying again in {seconds:g} s", file=sys.stderr)

        folder = pull_model(
            what,
            name=name,
            backbone=backbone,
            sha256=sha256,
            keep_download=keep_download,
            overwrite=overwrite,
            progress=show,
            retrying=tell,
        )
    _announce(folder)


@models.command()
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]) -> None:
    """Delete a model from this machine.

    Libraries made with it keep their vectors, until lensctl forget --model NAME.
    """
    from lensctl.models.folder import remove_folder
    from lensctl.models.home import model_path
    from lensctl.models.registry import EMBEDDED

    if name == EMBEDDED:
        raise UsageError(
            f"{name!r} is part of lensctl and cannot be removed", next_step="lensctl models list"
        )
    path = model_path(name)
    if not os.path.lexists(path):
        raise ModelError(f"there is no model {name!r} here", next_step="lensctl models list")
    remove_folder(path)
    note(f"removed {path}")


def _announce(folder: "ModelFolder") -> None:
    print(folder.path)
    note(f"ready: lensctl index DIR --model {folder.info.name}")


def _row(model: "ListedModel") -> dict[str, Any]:
    return {
        "name": model.name,
        "present": model.present,
        "description": model.description,
        "licence": model.licence,
        "path": str(model.path) if model.path else None,
        "problem": model.problem,
    }


def _facts(info: "ModelInfo") -> dict[str, Any]:
    from dataclasses import asdict

    facts = asdict(info)
    curves = facts.pop("curves")
    return facts | {f"relevance {kind}": curve for kind, curve in curves.items()}


def _check_files(model: Any) -> None:
    from lensctl.models.folder import ModelFolder, check_files

    if not isinstance(model, ModelFolder):
        note("this model is part of lensctl: its files are checked whenever it is opened")
        return
    check_files(model)
    note("all files have their recorded sha256")
