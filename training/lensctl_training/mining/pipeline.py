"""The pipeline, described once: which stages there are, and what each part is made from."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lensctl.errors import DataError
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.engine import Engine, run_with_bar
from lensctl_training.mining.funnel import UNANSWERED, Funnel, total
from lensctl_training.mining.image_table import build_table
from lensctl_training.mining.sources import find_parts
from lensctl_training.mining.workspace import Part, Workspace, digest, stale_parts

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
        Stage("groups", 2, lambda c: c.groups, run_groups),
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
    *,
    replace: bool = False,
    on_stage: Callable[[str, Funnel], None] | None = None,
) -> dict[str, Funnel]:
    """Run all stages, or only one, over the inputs.

    Args:
        inputs: folders, WARC files, listings; read by the stage *pages* alone.
        out: the folder for shards, report and intermediate results.
        config: the settings.
        engine: who does the work.
        only: a stage's name; the stages before it must have run.
        replace: what the folder holds of other inputs may be deleted.
        on_stage: told each stage's name and funnel once it is complete.

    Returns:
        The funnel of each stage that was run or already complete, by name.

    Raises:
        UsageError: the folder holds what was mined from other inputs.
        DataError: an input is missing or empty, an earlier stage has not run, or no triplet
            came out.
        ModelError: the captioner's weights are not here.
        LibraryBusyError: another run is at work in the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(out)
    funnels: dict[str, Funnel] = {}
    with workspace.locked():
        for name, funnel in _run_all(inputs, workspace, config, engine, only, replace):
            funnels[name] = funnel
            if on_stage:
                on_stage(name, funnel)
    if "write" in funnels and not funnels["write"].left["triplets"]:
        raise _no_triplets(workspace)
    return funnels


def _run_all(
    inputs: Sequence[Path],
    workspace: Workspace,
    config: MineConfig,
    engine: Engine,
    only: str,
    replace: bool,
) -> Iterator[tuple[str, Funnel]]:
    from lensctl_training.mining.captioner import check_captioner
    from lensctl_training.mining.write import write_shards

    if only in ("", "annotate") and not _is_annotated(workspace, config):
        check_captioner(config)
    for name in (only,) if only else (*_stages(), "write"):
        if name == "write":
            _made(workspace, "instruct")
            yield name, write_shards(workspace, config, engine)
            continue
        if name == "pages":
            parts = _page_parts(inputs, workspace, config, replace)
        else:
            parts = _parts(name, workspace, config)
        yield name, run_stage(name, parts, workspace, config, engine)
        if name == "pages":
            yield from _gather_images(workspace, config)


def _gather_images(workspace: Workspace, config: MineConfig) -> Iterator[tuple[str, Funnel]]:
    """After *pages*: fetch what is missing where that is allowed; the tables of images."""
    build_table(workspace, "pages")
    if config.fetch.enabled:
        from lensctl_training.mining.fetch import fetch_missing

        yield "fetch", fetch_missing(workspace, config)
    if workspace.parts("fetch"):
        build_table(workspace, "fetch")


def _no_triplets(workspace: Workspace) -> DataError:
    """A set without a triplet is no success; the first stage that nothing left says why."""
    from lensctl_training.mining.write import all_funnels, shards_in

    why = "no instruction was written"
    for stage, funnel in all_funnels(workspace).items():
        if stage != "fetch" and not any(funnel.left.values()):
            reasons: Counter[str] = sum(funnel.rejected.values(), Counter())
            said = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common(3))
            why = f"nothing is left after the stage {stage}" + (f": {said}" if said else "")
            break
    old = any(shards_in(workspace.out))
    return DataError(
        f"no triplet came out of the pages in {workspace.out}",
        why=why + ("; the shards there are an earlier run's" if old else ""),
        next_step=f"see {workspace.out / 'report.html'} for what was turned away, and why",
    )


def _page_parts(
    inputs: Sequence[Path], workspace: Workspace, config: MineConfig, replace: bool
) -> list[Part]:
    found = find_parts(inputs, config)
    names = {place: [part.name for part in parts] for place, parts in found.items()}
    if not replace:
        workspace.refuse_to_drop(names)
    parts = {part.name: part for each in found.values() for part in each}
    # Deleted first, so that a run killed here leaves no part that is not noted.
    workspace.remove_leftovers("pages", set(parts))
    workspace.note_inputs(names)
    return list(parts.values())


def _parts(name: str, workspace: Workspace, config: MineConfig) -> list[Part]:
    if name == "groups":
        return _site_parts(workspace, config)
    source = _stages()[name].source
    return [
        Part(part, (part,), workspace.done_key(source, part) or "")
        for part in _made(workspace, source)
    ]


def _site_parts(workspace: Workspace, config: MineConfig) -> list[Part]:
    """One part for each share of the sites, made from all parts of *pages* (and *fetch*)."""
    keys = [workspace.done_key("pages", part) for part in _made(workspace, "pages")]
    fetched = [workspace.done_key("fetch", part) for part in workspace.parts("fetch")]
    return [
        Part(f"site-{share:03d}", (str(share),), digest(keys, fetched, share))
        for share in range(config.pages.site_parts)
    ]


def _is_annotated(workspace: Workspace, config: MineConfig) -> bool:
    """Whether nothing is left to annotate in what the last run made of the pages."""
    if not workspace.parts("groups"):
        return False
    keys = _keys("annotate", _parts("annotate", workspace, config), config)
    return not any(stale_parts(workspace, "annotate", keys))


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
    keys = _keys(name, parts, config)
    workspace.remove_leftovers(name, set(keys))
    stale = set(stale_parts(workspace, name, keys))
    # Each with its own key: a task is pickled for itself, and there are tens of thousands.
    todo = [replace(part, key=keys[part.name]) for part in parts if part.name in stale]
    work = partial(make_part, name, str(workspace.out), config)
    run_with_bar(engine, work, todo, name, len(parts))
    return total(_funnels(workspace, name, keys))


def _keys(name: str, parts: Sequence[Part], config: MineConfig) -> dict[str, str]:
    """The key under which each part has to be made."""
    stage = _stages()[name]
    settings = repr(stage.settings(config))
    return {part.name: digest(name, stage.version, settings, part.fingerprint) for part in parts}


def _funnels(workspace: Workspace, stage: str, parts: Iterable[str]) -> Iterable[Funnel]:
    return (workspace.funnel(stage, part) for part in parts)


def make_part(stage: str, out: str, config: MineConfig, part: Part) -> None:
    """Make one part of a stage; what an engine runs, here or on another machine."""
    workspace = Workspace(Path(out))
    run = _stages()[stage].run
    workspace.make_part(
        stage,
        part.name,
        part.key,
        lambda folder: run(workspace, config, part, folder),
        lasts=lambda funnel: not funnel.facts[UNANSWERED],
    )
