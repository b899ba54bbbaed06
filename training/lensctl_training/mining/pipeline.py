"""The pipeline, described once: which stages there are, and what each part is made from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lensctl.errors import DataError
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.engine import Engine
from lensctl_training.mining.funnel import Funnel, total
from lensctl_training.mining.image_table import build_table
from lensctl_training.mining.sources import find_parts
from lensctl_training.mining.workspace import Part, Workspace, digest, stale_parts

STAGES = ("pages", "groups", "annotate", "pairs", "instruct", "write")
Run = Callable[[Workspace, MineConfig, Part, Path], Funnel]


@dataclass(frozen=True)
class Stage:
    """A stage that works part by part.

    Args:
        name: also the name of its folder.
        version: raised when the stage's results change; its parts are then made anew.
        settings: what of the settings its results depend on.
        run: makes one part; must give the same result for the same part.
        source: the stage whose parts are this one's input, part by part.
    """

    name: str
    version: int
    settings: Callable[[MineConfig], Any]
    run: Run
    source: str = ""


def _stages() -> dict[str, Stage]:
    """The stages' modules are imported here, on the worker that runs them."""
    from lensctl_training.mining.annotate import fingerprints, run_annotate
    from lensctl_training.mining.captioner import captioner_settings
    from lensctl_training.mining.groups import run_groups
    from lensctl_training.mining.instruct import run_instruct, writer_settings
    from lensctl_training.mining.pages import run_pages
    from lensctl_training.mining.pairs import run_pairs

    stages = (
        Stage("pages", 1, lambda c: c.pages, run_pages),
        Stage("groups", 1, lambda c: c.groups, run_groups),
        Stage(
            "annotate",
            1,
            lambda c: (fingerprints(c.model), *captioner_settings(c)),
            run_annotate,
            source="groups",
        ),
        Stage("pairs", 4, lambda c: c.pairs, run_pairs, source="annotate"),
        Stage("instruct", 1, writer_settings, run_instruct, source="pairs"),
    )
    return {stage.name: stage for stage in stages}


def run_pipeline(
    inputs: Sequence[Path],
    out: Path,
    config: MineConfig,
    engine: Engine,
    only: str = "",
) -> dict[str, Funnel]:
    """Run all stages, or only one, over the inputs.

    Args:
        inputs: folders, WARC files, listings; read by the stage *pages* alone.
        out: the folder for shards, report and intermediate results.
        config: the settings.
        engine: who does the work.
        only: a stage's name; the stages before it must have run.

    Returns:
        The funnel of each stage that was run or already complete, by name.

    Raises:
        DataError: an input is missing or empty, or an earlier stage has not run.
    """
    from lensctl_training.mining.write import write_shards

    out.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(out)
    funnels: dict[str, Funnel] = {}
    for name in STAGES:
        if only and name != only:
            continue
        if name == "write":
            funnels[name] = write_shards(workspace, config)
            continue
        parts = _parts(name, inputs, workspace, config)
        funnels[name] = run_stage(name, parts, workspace, config, engine)
        if name == "pages":
            funnels |= _gather_images(workspace, config)
    return funnels


def _gather_images(workspace: Workspace, config: MineConfig) -> dict[str, Funnel]:
    """After *pages*: fetch what is missing where that is allowed, then build the image table."""
    if not config.fetch.enabled:
        build_table(workspace)
        return {}
    build_table(workspace, ("pages",))
    from lensctl_training.mining.fetch import fetch_missing

    funnel = fetch_missing(workspace, config)
    build_table(workspace)
    return {"fetch": funnel}


def _parts(
    name: str, inputs: Sequence[Path], workspace: Workspace, config: MineConfig
) -> list[Part]:
    if name == "pages":
        return find_parts(inputs, config)
    if name == "groups":
        return _site_parts(workspace, config)
    source = _stages()[name].source
    return [
        Part(part, (part,), workspace.done_key(source, part) or "")
        for part in _made(workspace, source)
    ]


def _site_parts(workspace: Workspace, config: MineConfig) -> list[Part]:
    """One part for each share of the sites, made from all parts of *pages* (and *fetch*)."""
    sources = _made(workspace, "pages")
    keys = [workspace.done_key("pages", part) for part in sources]
    fetched = [workspace.done_key("fetch", part) for part in workspace.parts("fetch")]
    return [
        Part(f"site-{share:03d}", (str(share), *sources), digest(keys, fetched, share))
        for share in range(config.pages.site_parts)
    ]


def _made(workspace: Workspace, stage: str) -> list[str]:
    parts = workspace.parts(stage)
    if not parts:
        raise DataError(
            f"the stage {stage} has not run in {workspace.out}",
            next_step=f"run `lensctl mine {stage} ... --out {workspace.out}` first",
        )
    return parts


def run_stage(
    name: str, parts: Sequence[Part], workspace: Workspace, config: MineConfig, engine: Engine
) -> Funnel:
    """Make the parts that are missing or stale; returns the funnel of them all."""
    stage = _stages()[name]
    keys = {part.name: digest(name, stage.version, repr(stage.settings(config)), part.fingerprint)
            for part in parts}  # fmt: skip
    workspace.remove_leftovers(name, set(keys))
    stale = set(stale_parts(workspace, name, keys))
    todo = [part for part in parts if part.name in stale]
    work = partial(make_part, name, keys, str(workspace.out), config)
    progress = tqdm(
        total=len(parts), initial=len(parts) - len(todo), desc=name, unit="part", disable=None
    )
    with progress:
        for _ in engine.run(work, todo):
            progress.update()
    return total(_funnels(workspace, name, keys))


def _funnels(workspace: Workspace, stage: str, parts: Iterable[str]) -> Iterable[Funnel]:
    return (workspace.funnel(stage, part) for part in parts)


def make_part(stage: str, keys: dict[str, str], out: str, config: MineConfig, part: Part) -> None:
    """Make one part of a stage; what an engine runs, here or on another machine."""
    workspace = Workspace(Path(out))
    run = _stages()[stage].run
    workspace.make_part(
        stage, part.name, keys[part.name], lambda folder: run(workspace, config, part, folder)
    )
