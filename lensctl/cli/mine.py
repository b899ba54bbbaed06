"""`lensctl mine`: web pages into instruction triplets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensctl.cli.options import read_path
from lensctl.errors import UsageError

if TYPE_CHECKING:
    from lensctl_training.mining.funnel import Funnel

STAGES = ("pages", "groups", "annotate", "pairs", "instruct", "write")
"""Those of the pipeline, which help does not load; a test compares them."""

Inputs = Annotated[
    list[str],
    typer.Argument(
        help=f"A stage ({', '.join(STAGES)}), or none for all; then folders of saved pages, WARC "
        "files, or listings of WARC files.",
        metavar="[STAGE] FOLDER|WARC|LISTING...",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Folder for shards, report and work.", parser=read_path
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings (TOML); docs/mining.md lists them.",
        parser=read_path,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model that annotates the images.")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or mps.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Address a folder of pages was saved from."),
]
Fetch = Annotated[
    bool, typer.Option("--fetch", help="Fetch images that the input lacks; robots.txt is obeyed.")
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="OpenAI-compatible address whose model writes the instructions.",
    ),
]
EndpointModel = Annotated[
    str | None,
    typer.Option("--endpoint-model", metavar="NAME", help="Name of the model at --endpoint."),
]
Captioner = Annotated[
    str | None,
    typer.Option(
        "--captioner",
        metavar="URL|open_clip:MODEL/FILE",
        help="OpenAI-compatible address with vision, or a captioning model of open_clip.",
    ),
]
CaptionerModel = Annotated[
    str | None,
    typer.Option("--captioner-model", metavar="NAME", help="Name of the model at --captioner."),
]
ValShare = Annotated[
    float | None,
    typer.Option(
        "--val-share",
        metavar="SHARE",
        help="Expected share of sites that go to val, 0 to 0.99.",
        min=0.0,
        max=0.99,
    ),
]
ValSite = Annotated[
    list[str] | None,
    typer.Option("--val-site", metavar="HOST", help="A site that goes to val; may be repeated."),
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Delete what --out holds of inputs that are not named now."),
]
Engine = Annotated[str, typer.Option("--engine", metavar="ENGINE", help="local or ray.")]
Address = Annotated[
    str, typer.Option("--address", metavar="ADDRESS", help="Address of a running Ray cluster.")
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", metavar="N", help="Processes (local) or tasks at a time (ray).", min=0
    ),
]


def mine(
    inputs: Inputs,
    out: Out,
    config: Config = None,
    model: Model = None,
    device: Device = None,
    base_url: BaseUrl = None,
    fetch: Fetch = False,
    endpoint: Endpoint = None,
    endpoint_model: EndpointModel = None,
    captioner: Captioner = None,
    captioner_model: CaptionerModel = None,
    val_share: ValShare = None,
    val_site: ValSite = None,
    engine: Engine = "local",
    address: Address = "",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Mine (query image, instruction, target image) triplets from web pages.

    A run that was stopped goes on where it was. Without --endpoint, instructions are written by
    rules and labelled so.
    """
    stage, places = _split(inputs)
    over: dict[str, Any] = {
        "model": model,
        "device": device,
        "base_url": base_url,
        "captioner": captioner,
        "captioner_model": captioner_model,
        "fetch": {"enabled": fetch or None},
        "instruct": {"endpoint": endpoint, "model": endpoint_model},
        "write": {"val_share": val_share, "val_sites": val_site or None},
    }
    from lensctl_training.mining.config import load_config
    from lensctl_training.mining.engine import open_engine
    from lensctl_training.mining.pipeline import run_pipeline

    settings = load_config(config, over)
    funnels = run_pipeline(
        places,
        out,
        settings,
        open_engine(engine, address, workers),
        stage,
        replace=replace,
        on_stage=_print_funnel,
    )
    if "write" in funnels:
        from lensctl_training.mining.splits import empty_splits
        from lensctl_training.mining.write import shards_in

        for shard in shards_in(out):
            typer.echo(str(shard))
        for sentence in empty_splits(funnels["write"], settings.write):
            typer.echo(f"warning: {sentence}", err=True)
        typer.echo(f"report: {out / 'report.html'}", err=True)


def _split(inputs: list[str]) -> tuple[str, list[Path]]:
    """(stage or "", inputs). A folder that is called like a stage is given as ./pages."""
    stage = inputs[0] if inputs[0] in STAGES else ""
    places = [read_path(each) for each in (inputs[1:] if stage else inputs)]
    if stage == "pages" and not places:
        raise UsageError(
            f"{stage} is a stage, and what it reads is missing",
            next_step="name what to mine: lensctl mine FOLDER --out DIR; a folder that is called"
            f" {stage}: ./{stage}",
        )
    if not stage and inputs[0].isalpha() and not places[0].exists():
        raise UsageError(
            f"{inputs[0]} is neither a stage nor here",
            why=f"stages are {', '.join(STAGES)}",
            next_step="correct it; a stage after pages reads --out: lensctl mine groups --out DIR",
        )
    if stage not in ("", "pages") and places:
        raise UsageError(
            f"the stage {stage} reads what earlier stages left in --out, not {places[0]}",
            next_step=f"lensctl mine {stage} --out DIR; a folder that is called {stage}: ./{stage}",
        )
    return stage, places


def _print_funnel(name: str, funnel: "Funnel") -> None:
    for unit in funnel.entered:
        rejected = sum(funnel.rejected.get(unit, {}).values())
        typer.echo(
            f"{name}\t{unit}\t{funnel.entered[unit]} in\t{rejected} rejected"
            f"\t{funnel.left[unit]} out",
            err=True,
        )
    # Files are counted only where they are damaged: there is no balance, but a reason.
    for unit in funnel.rejected.keys() - funnel.entered.keys():
        for reason, count in funnel.rejected[unit].most_common():
            typer.echo(f"{name}\t{unit}\t{count} rejected\t{reason}", err=True)
