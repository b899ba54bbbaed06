"""`lensctl mine`: web pages into instruction triplets."""

from pathlib import Path
from typing import Any

import typer

from lensctl.errors import UsageError

STAGES = ("pages", "groups", "annotate", "pairs", "instruct", "write")


def mine(
    inputs: list[str] = typer.Argument(
        help=f"A stage ({', '.join(STAGES)}), or none for all; then folders of saved pages, WARC "
        "files, or listings of WARC files.",
        metavar="[STAGE] FOLDER|WARC|LISTING...",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for shards, report and work."),
    config: Path | None = typer.Option(
        None, "--config", help="Settings (TOML); docs/mining.md lists them."
    ),
    model: str | None = typer.Option(None, "--model", help="Model that annotates the images."),
    device: str | None = typer.Option(None, "--device", help="auto, cpu, cuda or mps."),
    base_url: str | None = typer.Option(
        None, "--base-url", help="Address a folder of pages was saved from."
    ),
    fetch: bool = typer.Option(
        False, "--fetch", help="Fetch images that the input lacks; robots.txt is obeyed."
    ),
    endpoint: str | None = typer.Option(
        None, "--endpoint", help="OpenAI-compatible address whose model writes the instructions."
    ),
    endpoint_model: str | None = typer.Option(
        None, "--endpoint-model", help="Name of the model at --endpoint."
    ),
    captioner: str | None = typer.Option(
        None,
        "--captioner",
        help="OpenAI-compatible address with vision, or open_clip:MODEL/PRETRAINED.",
    ),
    captioner_model: str | None = typer.Option(
        None, "--captioner-model", help="Name of the model at --captioner."
    ),
    val_share: float | None = typer.Option(
        None, "--val-share", help="Expected share of sites that go to val.", min=0.0, max=0.99
    ),
    val_site: list[str] = typer.Option(
        [], "--val-site", help="A site that goes to val; may be repeated."
    ),
    engine: str = typer.Option("local", "--engine", help="local or ray."),
    address: str = typer.Option("", "--address", help="Address of a running Ray cluster."),
    workers: int = typer.Option(
        1, "--workers", help="Processes (local) or tasks at a time (ray).", min=0
    ),
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
    funnels = run_pipeline(places, out, settings, open_engine(engine, address, workers), stage)
    _report(funnels, out)


def _split(inputs: list[str]) -> tuple[str, list[Path]]:
    """(stage or "", inputs). A folder that is called like a stage is given as ./pages."""
    stage = inputs[0] if inputs[0] in STAGES else ""
    places = [Path(each) for each in (inputs[1:] if stage else inputs)]
    if stage in ("", "pages") and not places:
        raise UsageError("mine what?", next_step="lensctl mine FOLDER --out DIR")
    if stage not in ("", "pages") and places:
        raise UsageError(
            f"the stage {stage} reads what earlier stages left in --out, not {places[0]}"
        )
    return stage, places


def _report(funnels: dict[str, Any], out: Path) -> None:
    for name, funnel in funnels.items():
        for unit in funnel.entered:
            rejected = sum(funnel.rejected.get(unit, {}).values())
            typer.echo(
                f"{name}\t{unit}\t{funnel.entered[unit]} in\t{rejected} rejected"
                f"\t{funnel.left[unit]} out",
                err=True,
            )
    if "write" in funnels:
        for shard in sorted((*out.glob("*.tar"), *out.glob("val/*.tar"))):
            typer.echo(str(shard))
        typer.echo(f"report: {out / 'report.html'}", err=True)
