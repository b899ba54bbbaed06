"""`lensctl train`: a run from a recipe, the check of a data set, imports from other formats."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lensctl.cli.options import read_path
from lensctl.cli.terminal import note
from lensctl.errors import DependencyError, LensctlError, UsageError
from lensctl.show.page_file import require_page_path

if TYPE_CHECKING:
    from lensctl_training.recipe import Recipe


class _RunByDefault(TyperGroup):
    """`lensctl train RECIPE` is `lensctl train run RECIPE`; check and import keep their names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


train_app = typer.Typer(
    name="train",
    cls=_RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Train a MagicLens: lensctl train RECIPE [DATA] --out DIR.

    RECIPE is a shipped recipe (smoke, scenes, mini, magiclens-base, magiclens-large, coca-base,
    coca-large) or a .toml file; DATA is a folder of shards or a .jsonl file. Options: lensctl
    train run --help. A first look, 5 minutes on two cores: lensctl train smoke --out smoke""",
)
import_app = typer.Typer(
    name="import",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn a set of triplets, in its own format and on this disk, into shards.",
)
train_app.add_typer(import_app)

OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where shards go.", parser=read_path)
]
ImagesOption = Annotated[
    Path,
    typer.Option("--images", metavar="DIR", help="The folder of the images.", parser=read_path),
]


@train_app.command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or file.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Log, checkpoints, model and report go here.",
            parser=read_path,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]", help="Shards or .jsonl; replaces the recipe's.", parser=read_path
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in DIR, if any.")
    ] = False,
    nproc: Annotated[
        int, typer.Option("--nproc", min=1, metavar="N", help="Processes, one for each GPU.")
    ] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting; repeatable."),
    ] = None,
) -> None:
    """Train, and export the best checkpoint as a model for `lensctl index --model DIR/model`.

    SIGTERM and Ctrl-C save a checkpoint and end with 143 and 130; --resume goes on from it. For
    several machines: torchrun ... -m lensctl train RECIPE DATA --out DIR.
    """
    _require_training()
    for word in (recipe, *([str(data)] if data else []), *context.args):
        _refuse_setting(word, after_set=bool(settings))
    if context.args:
        context.fail(f"Got unexpected extra argument ({context.args[0]})")
    from lensctl_training.recipe import read_recipe, recipe_from_dict

    # DATA replaces a recipe's scenes; they come back only where --set asks for both, an error.
    values = read_recipe(recipe, [*(["data.scenes=0"] if data else []), *(settings or [])])
    if data and isinstance(values["data"], dict):
        values["data"]["train"] = str(data)
    if values.get("trains") == "mini":
        if nproc > 1:
            raise UsageError(f"{recipe} is trained by one process", next_step="leave --nproc out")
        return _train_mini(values, out, resume=resume)
    loaded = recipe_from_dict(values)
    if nproc > 1:
        from lensctl_training.distributed import launch

        arguments = ["train", "run", recipe, *([str(data)] if data else []), "--out", str(out)]
        arguments += ["--resume"] * resume
        arguments += [part for setting in settings or [] for part in ("--set", setting)]
        raise typer.Exit(launch(nproc, arguments))
    _train_here(loaded, out, resume=resume)


def _train_here(recipe: "Recipe", out: Path, *, resume: bool) -> None:
    """Train in this process, which may be one of several, and say how it ended."""
    from lensctl_training.distributed import end_with_parent, tell_parent

    end_with_parent()
    from lensctl_training.train import train

    try:
        outcome = train(recipe, out, resume=resume)
    except LensctlError as error:
        if tell_parent(error):
            raise typer.Exit(error.exit_code) from error
        raise
    if outcome.stopped_by:
        if os.environ.get("RANK", "0") == "0":  # one of several processes tells it
            note(f"saved at step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.stopped_by)
    if outcome.model is not None:
        _show(outcome.metrics)
        note(f"report: {outcome.report}")
        note(f"next: lensctl index --model {outcome.model} --library {out / 'library'} ~/Photos")


def _refuse_setting(word: str, *, after_set: bool) -> None:
    """`--set a=1 b=2` gives b=2 as RECIPE or DATA, or as a word too many."""
    if after_set and "=" in word and not Path(word).exists():
        raise UsageError(
            f"{word} is no file",
            why="--set takes one setting and has to be repeated",
            next_step=f"did you mean --set {word}",
        )


def _train_mini(values: dict[str, Any], out: Path, *, resume: bool) -> None:
    """The embedded model's lens, which has stages instead of checkpoints."""
    from lensctl_training.mini.pipeline import lens_recipe, train_lens

    model = train_lens(lens_recipe(values), out, resume=resume)
    note(
        f"text tower, lens, fusion and card: {model}; they are what lensctl/models/mini/data ships"
    )


def _show(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        print(f"{name}\t{value:.4f}")


@train_app.command()
def check(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Shards or a .jsonl file.", parser=read_path)
    ],
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="FILE",
            help="Also write a page with sample triplets.",
            parser=read_path,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, metavar="N", help="Triplets on the page.")
    ] = 40,
) -> None:
    """Read a whole data set, count what is there and what is wrong; exit 6 if anything is."""
    _require_training()
    from lensctl_training.data.check import check_data

    if sheet is not None:
        require_page_path(sheet)
    found = check_data(data, sheet=sheet, samples=samples)
    for name, value in found.facts().items():
        print(f"{name}\t{value}")
    for line in found.problems.lines():
        print(f"problem\t{line}")
    if sheet is not None:
        note(f"samples: {sheet}")
    if found.problems.total:
        raise typer.Exit(6)


@import_app.command()
def jsonl(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="One triplet a line.", parser=read_path)
    ],
    out: OutOption,
) -> None:
    """A JSONL file of local paths; docs/training.md has the format."""
    _import("jsonl", [file], out)


@import_app.command()
def megapairs(
    annotations: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The annotations, .jsonl or .json.", parser=read_path),
    ],
    images: ImagesOption,
    out: OutOption,
) -> None:
    """MegaPairs: q_img, q_text, t_img and hns, as its authors distribute them."""
    _import("megapairs", [annotations, images], out)


@import_app.command()
def cirr(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data set's folder.", parser=read_path)
    ],
    out: OutOption,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="train or val.")] = "train",
) -> None:
    """CIRR: captions/cap.rc2.SPLIT.json and image_splits/split.rc2.SPLIT.json."""
    _import("cirr", [folder, split], out)


@import_app.command()
def fashioniq(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The data set's folder.", parser=read_path)
    ],
    out: OutOption,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="train or val.")] = "train",
) -> None:
    """FashionIQ: captions/cap.CATEGORY.SPLIT.json and images; the two captions are joined."""
    _import("fashioniq", [folder, split], out)


def _import(kind: str, arguments: list[object], out: Path) -> None:
    _require_training()
    from lensctl_training.data.imports import import_triplets

    if out.is_dir() and any(out.glob("*.tar")):
        raise UsageError(f"{out} already holds shards", next_step="choose another --out")
    written, problems = import_triplets(kind, arguments, out)
    print(f"triplets\t{written}")
    for line in problems.lines():
        print(f"problem\t{line}")
    note(f"next: lensctl train check {out}")


def _require_training() -> None:
    try:
        import lensctl_training  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "the training package is missing",
            why=str(error),
            next_step="install lensctl from its wheel or its repository",
        ) from error
