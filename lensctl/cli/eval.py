"""`lensctl eval`: benchmarks, triplets, and blind comparisons of two models."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.options import DeviceOption, LibraryOption, PrecisionOption, QuietOption, read_path
from lensctl.cli.terminal import note
from lensctl.config import load_settings, user_folder
from lensctl.errors import DataError, LensctlError, UsageError
from lensctl.show.names import show_text

if TYPE_CHECKING:
    from lensctl.models.interface import Model
    from lensctl_training.benchmarks.methods import Baseline
    from lensctl_training.benchmarks.registry import LoadOptions
    from lensctl_training.benchmarks.run import EvalOptions

BENCHMARKS = {
    "fashioniq": "FashionIQ: change a garment as two captions say.",
    "cirr": "CIRR: real-life images, open-ended changes.",
    "circo": "CIRCO: several right answers among 123,403 images.",
    "genecis": "GeneCIS: four kinds of conditional similarity.",
    "dtin": "DTIN: the same object in another domain.",
    "tu-berlin": "TU-Berlin: a sketch finds photos of its class.",
    "flickr30k": "Flickr30k captions, both directions.",
    "coco": "COCO captions, both directions.",
}
BASELINES = ("image", "text", "sum")
SPLITS = ("val", "test")
RUN_HELP = "A benchmark's folder of results, or the JSON of `eval triplets`."

eval_app = typer.Typer(
    name="eval",
    help="Score models on benchmarks, on triplets, or by a person's blind votes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", help="The benchmark's folder, as distributed.", parser=read_path
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="A model; repeatable [default: mini]."),
]
BaselinesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline", metavar="NAME", help="Also score image, text or sum; repeatable; all: each."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Where results go: JSON, table, pages, submissions [default: eval-results/BENCHMARK].",
        show_default=False,
        parser=read_path,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Where vectors of galleries are kept [default: the platform's cache folder].",
        show_default=False,
        parser=read_path,
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", metavar="SPLIT", help="CIRR and CIRCO: val or test [default: both]."),
]
InstructionOption = Annotated[
    str, typer.Option(metavar="TEXT", help="TU-Berlin: the text that goes with every sketch.")
]
MissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Count unreadable images as never found.")
]
BatchOption = Annotated[int, typer.Option(min=1, metavar="N", help="Images encoded together.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Threads that read images [default: one per CPU]."),
]


def _benchmark_command(names: tuple[str, ...]) -> Callable[..., None]:
    """The command that scores these benchmarks; several are read from folders of their names."""

    def command(
        data: DataOption,
        model: ModelsOption = None,
        baseline: BaselinesOption = None,
        out: OutOption = None,
        cache: CacheOption = None,
        split: SplitOption = None,
        instruction: InstructionOption = "",
        allow_missing: MissingOption = False,
        device: DeviceOption = None,
        precision: PrecisionOption = None,
        batch_size: BatchOption = 32,
        workers: WorkersOption = None,
        quiet: QuietOption = False,
    ) -> None:
        from lensctl_training.benchmarks.registry import LoadOptions

        _refuse_unused(names, split, instruction)
        options = _options(
            cache, baseline, device, precision, batch_size, workers, allow_missing, quiet
        )
        reading = LoadOptions(_splits(split), instruction)
        places = _places(names, data)
        models = [_open(name) for name in model or ["mini"]]
        failed: list[LensctlError] = []
        unheard: list[OSError] = []
        for name, place in places.items():
            folder = out or Path("eval-results")
            folder = folder / name if out is None or len(names) > 1 else folder
            try:
                text = _score(name, place, models, reading, options, folder)
            except DataError as error:
                # One benchmark's incomplete data does not cost the scores of the others.
                failed.append(error)
                if len(places) > 1:
                    note("\n".join(error.lines()))
            else:
                unheard += _print_now(text)
        if failed:
            raise failed[0] if len(places) == 1 else _some_failed(len(failed), len(places))
        if unheard:
            raise unheard[0]

    return command


def _print_now(text: str) -> list[OSError]:
    """Print; the error, if any, is for later: a reader that left does not cost further scores."""
    try:
        print(text, flush=True)
    except OSError as error:
        return [error]
    return []


def _some_failed(failed: int, count: int) -> DataError:
    return DataError(
        f"{failed} of {count} benchmarks could not be scored",
        why="the reason stands above for each",
        next_step="complete their data, or leave their folders out",
    )


def _refuse_unused(names: tuple[str, ...], split: list[str] | None, instruction: str) -> None:
    """An option that would change nothing is a misunderstanding."""
    if split and not {"cirr", "circo"} & set(names):
        raise UsageError(f"{names[0]} has no hidden split", next_step="leave --split out")
    if instruction and "tu-berlin" not in names:
        raise UsageError(
            f"{names[0]} has an instruction of its own with every query",
            next_step="leave --instruction out",
        )


def _score(
    name: str,
    place: Path,
    models: "list[Model]",
    reading: "LoadOptions",
    options: "EvalOptions",
    folder: Path,
) -> str:
    """Evaluate and write the results, which are then safe whatever becomes of stdout; the table."""
    from lensctl_training.benchmarks.report import table
    from lensctl_training.benchmarks.run import run_benchmark, write_results

    report = run_benchmark(name, place, models, reading, options, folder)
    lenses = {method.info.lens_fingerprint for method in report.methods}
    if replaced := _other_models(folder, lenses):
        note(f"replaced in {folder}: results of {replaced}; to keep each run's: --out DIR")
    for path in write_results(report, folder):
        note(f"wrote {path}")
    return table(report)


def _other_models(folder: Path, lenses: set[str]) -> str:
    """Names of the models in an earlier run's results that are not among those of these lenses."""
    import json

    try:
        earlier = json.loads((folder / "results.json").read_text(encoding="utf-8"))["methods"]
        found = {one["model"] for one in earlier if one["lens_fingerprint"] not in lenses}
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return ", ".join(sorted(map(show_text, found)))


def _places(names: tuple[str, ...], data: Path) -> dict[str, Path]:
    """Where each benchmark lies; of `all`, those that are there, and at least one."""
    if len(names) == 1:
        return {names[0]: data}
    found = {name: data / name for name in names if (data / name).is_dir()}
    for name in names:
        if name not in found:
            note(f"{name}: there is no folder {data / name}; it is left out")
    if not found:
        raise DataError(
            f"there is no benchmark in {data}",
            why=f"looked for folders named {', '.join(names)}",
            next_step="see the page on evaluation in the docs",
        )
    return found


def _options(
    cache: Path | None,
    baseline: list[str] | None,
    device: str | None,
    precision: str | None,
    batch_size: int,
    workers: int | None,
    allow_missing: bool,
    quiet: bool,
) -> "EvalOptions":
    import os

    from lensctl_training.benchmarks.run import EvalOptions

    settings = load_settings(device=device, precision=precision, workers=workers)
    return EvalOptions(
        cache=cache or _default_cache(),
        baselines=_baselines(baseline),
        device=settings.device,
        precision=settings.precision,
        batch_size=batch_size,
        workers=settings.workers or os.cpu_count() or 1,
        allow_missing=allow_missing,
        quiet=quiet,
    )


def _default_cache() -> Path:
    return user_folder("cache", instead="--cache DIR") / "eval"


def _baselines(names: list[str] | None) -> "tuple[Baseline, ...]":
    chosen = names or []
    unknown = [name for name in chosen if name not in (*BASELINES, "all")]
    if unknown:
        raise UsageError(
            f"there is no baseline {unknown[0]!r}",
            why=f"the baselines are {', '.join(BASELINES)}",
            next_step="--baseline all",
        )
    wanted = BASELINES if "all" in chosen else tuple(n for n in BASELINES if n in chosen)
    return wanted  # type: ignore[return-value]


def _splits(names: list[str] | None) -> tuple[str, ...]:
    unknown = [name for name in names or [] if name not in SPLITS]
    if unknown:
        raise UsageError(f"there is no split {unknown[0]!r}", next_step="--split val")
    return tuple(name for name in SPLITS if name in (names or SPLITS))


def _open(name: str) -> "Model":
    from lensctl.models.registry import open_model

    return open_model(name)


for _name, _help in BENCHMARKS.items():
    eval_app.command(_name, help=_help)(_benchmark_command((_name,)))
eval_app.command("all", help="Every benchmark that is in DIR, in folders of their names.")(
    _benchmark_command(tuple(BENCHMARKS))
)


@eval_app.command()
def triplets(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...", help="A folder of shards, shards, or .jsonl files.", parser=read_path
        ),
    ],
    model: ModelsOption = None,
    baseline: BaselinesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the scores as JSON.", parser=read_path),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    batch_size: BatchOption = 32,
    quiet: QuietOption = False,
) -> None:
    """Score models on our own triplets, by the measures that training uses for validation."""
    from lensctl_training.benchmarks.report import make_folder
    from lensctl_training.benchmarks.triplet_set import evaluate_data, write_triplet_report

    if out is not None and out.is_dir():
        raise UsageError(
            f"{out} is a folder",
            why="--out is the file that the scores go into",
            next_step=f"--out {out / 'scores.json'}",
        )
    if out is not None:
        make_folder(out.parent)

    settings = load_settings(device=device, precision=precision)
    models = [_open(name) for name in model or ["mini"]]
    report = evaluate_data(
        data,
        models,
        _baselines(baseline),
        device=settings.device,
        precision=settings.precision,
        batch_size=batch_size,
        quiet=quiet,
    )
    if out is not None:
        for path in write_triplet_report(report, out):
            note(f"wrote {path}")
    print(report.table())


@eval_app.command()
def difference(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help=RUN_HELP, parser=read_path)],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help=RUN_HELP, parser=read_path)],
    method_a: Annotated[
        str, typer.Option("--a", metavar="METHOD", help="A column of RUN_A [default: the first].")
    ] = "",
    method_b: Annotated[
        str, typer.Option("--b", metavar="METHOD", help="A column of RUN_B [default: the first].")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two finished runs on the same queries: A minus B, with 95 % intervals."""
    import json

    from lensctl_training.benchmarks.differences import compare_runs, read_method

    found = compare_runs(read_method(run_a, method_a), read_method(run_b, method_b))
    if as_json:
        json.dump(found.document(), sys.stdout, indent=2)
        print()
    else:
        print(found.table())


@eval_app.command()
def compare(
    model_a: Annotated[str, typer.Argument(metavar="A", help="A model, indexed in the library.")],
    model_b: Annotated[str, typer.Argument(metavar="B", help="The model to compare it with.")],
    queries: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help='Lines like {"image": "photo.jpg", "text": "the same at night"}.',
            parser=read_path,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Where the ballot and the votes are kept.", parser=read_path
        ),
    ] = Path("eval-results/compare"),
    results: Annotated[
        int, typer.Option("-k", min=1, max=20, metavar="N", help="Photos shown a side.")
    ] = 6,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws which side is whose.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0: any free port.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    library: LibraryOption = None,
) -> None:
    """Vote blindly which of two models answers your questions better, on your own library.

    The page is served to this machine only. Votes are saved one by one: end with Ctrl-C, and run
    the same command again to go on. The outcome is printed at the end.
    """
    from lensctl.cli.opening import existing_library
    from lensctl_training.benchmarks.compare_library import prepare_ballot
    from lensctl_training.benchmarks.compare_server import VotingServer

    place = existing_library(load_settings(library=library).library)
    models = (_open(model_a), _open(model_b))
    ballot = prepare_ballot(place, models, queries, out, count=results, seed=seed)
    server = VotingServer(ballot, port)
    note(f"vote at {server.address}  (Ctrl-C ends and prints the outcome)")
    if browser:
        import webbrowser

        webbrowser.open(server.address)
    try:
        server.serve()
    except KeyboardInterrupt:
        note("")
    _print_votes(out)


@eval_app.command()
def votes(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The --out of `eval compare`.", parser=read_path)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the votes of a blind comparison, with confidence intervals."""
    _print_votes(folder, as_json)


def _print_votes(folder: Path, as_json: bool = False) -> None:
    import json
    from dataclasses import asdict

    from lensctl_training.benchmarks.compare import describe, read_ballot, summarise

    ballot = read_ballot(folder)
    summary = summarise(ballot)
    if as_json:
        names = {"model_a": ballot.model_a, "model_b": ballot.model_b}
        json.dump(names | asdict(summary), sys.stdout, indent=2)
        print()
    else:
        print(describe(ballot, summary))
