"""Stage *write*: instructed pairs into the shards that `lensctl train` reads.

DIR/triplets-000000.tar ...      for training
DIR/val/triplets-000000.tar ...  of sites and with images of which nothing is in training
DIR/funnel.json, report.html, datasheet.md
"""

import dataclasses
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensctl import __version__
from lensctl.photos.decode import decode
from lensctl.whole import whole, write_json
from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.triplet import Triplet
from lensctl_training.mining.annotate import annotator_of
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.engine import Engine, run_with_bar
from lensctl_training.mining.funnel import Funnel, total
from lensctl_training.mining.groups import ROWS
from lensctl_training.mining.records import Instructed, Picture, read_rows
from lensctl_training.mining.row_index import RowIndex, read_at, read_locations
from lensctl_training.mining.splits import LEFT_OUT, TRAIN, VAL, divide
from lensctl_training.mining.workspace import DONE, Part, Workspace, digest

STAGES_WITH_PARTS = ("pages", "fetch", "groups", "annotate", "pairs", "instruct")
SHARDS = "shards"
ROWS_IN_ORDER = "rows.bin"
_VERSION = 2


def write_shards(workspace: Workspace, config: MineConfig, engine: Engine) -> Funnel:
    """Write shards, report and datasheet, unless they are there and up to date.

    Without a triplet only report and datasheet are written: shards of an earlier run stay.

    Args:
        workspace: what the stages before made.
        config: the settings.
        engine: who encodes the images.
    """
    from lensctl_training.mining.report import Tally, write_report

    parts = workspace.parts("instruct")
    keys = [workspace.done_key("instruct", part) for part in parts]
    annotators = {annotator_of(workspace.part_folder("instruct", part)) for part in parts}
    named = ", ".join(sorted(annotators))
    key = digest(_VERSION, keys, repr(config.write), config.groups.hash_distance, named)
    folder = workspace.folder / "write"
    done = _read_done(folder / DONE)
    if done and done["key"] == key and all((workspace.out / s).is_file() for s in done["shards"]):
        return Funnel.from_json(done["funnel"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    funnel = Funnel()
    index = RowIndex([workspace.part_folder("instruct", part) / ROWS for part in parts])
    splits = divide(index, config, funnel)
    written = _write(index, splits, key, workspace, config, engine)
    funnel.add(total(workspace.funnel(SHARDS, part) for part in written))
    tally = Tally(config.write.sheet_rows)
    for row in index.rows(np.flatnonzero(splits != LEFT_OUT)):
        tally.add(row)
    shards = _place(workspace, written) if written else []
    write_report(workspace, tally, all_funnels(workspace) | {"write": funnel}, named)
    if not written:
        return funnel
    (folder / ROWS_IN_ORDER).unlink()
    done = {"key": key, "shards": shards, "funnel": funnel.as_json()}
    write_json(folder / DONE, done)
    return funnel


def instructed_rows(workspace: Workspace) -> Iterator[Instructed]:
    """Everything that *instruct* wrote."""
    for part in workspace.parts("instruct"):
        for row in read_rows(workspace.part_folder("instruct", part) / ROWS):
            yield Instructed.from_json(row)


def shards_in(out: Path) -> list[Path]:
    """The shards in an output folder, for training and val, sorted."""
    return sorted(path for each in (out, out / "val") for path in each.glob("triplets-*.tar"))


def all_funnels(workspace: Workspace) -> dict[str, Funnel]:
    """The funnel of every stage that has run."""
    return {
        stage: total(workspace.funnel(stage, part) for part in parts)
        for stage in STAGES_WITH_PARTS
        if (parts := workspace.parts(stage))
    }


def _read_done(path: Path) -> dict[str, Any] | None:
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return done if isinstance(done, dict) else None


def _write(
    index: RowIndex,
    splits: npt.NDArray[np.int8],
    key: str,
    workspace: Workspace,
    config: MineConfig,
    engine: Engine,
) -> list[str]:
    """All shards, in parts under work/shards/; names of the parts in the order of their shards.

    A part is as many triplets of a split as go into a shard, in the order of their keys. What an
    earlier run that was killed had finished is kept.
    """
    order = [np.flatnonzero(splits == split) for split in (TRAIN, VAL)]
    with whole(workspace.folder / "write" / ROWS_IN_ORDER) as unfinished:
        index.locations(np.concatenate(order)).tofile(unfinished)
    parts, first, limit = [], 0, config.write.triplets_per_shard
    for split, places in zip(("train", "val"), order, strict=True):
        for number, start in enumerate(range(first, first + len(places), limit)):
            stop = min(start + limit, first + len(places))
            name, inputs = f"{split}-{number:06d}", (split, str(start), str(stop))
            parts.append(Part(name, inputs, key, digest(key, name)))
        first += len(places)
    finished = {part.name for part in parts if _is_whole(workspace, part)}
    workspace.remove_leftovers(SHARDS, finished)
    todo = [part for part in parts if part.name not in finished]
    work = partial(write_part, str(workspace.out), config)
    run_with_bar(engine, work, todo, "write", len(parts))
    return [part.name for part in parts]


def _is_whole(workspace: Workspace, part: Part) -> bool:
    """Whether its shards are there: a run may be killed while it moves them away."""
    shards = workspace.funnel(SHARDS, part.name).facts["shards"]
    there = len(list(workspace.part_folder(SHARDS, part.name).glob("*.tar")))
    return workspace.done_key(SHARDS, part.name) == part.key and there == shards


def write_part(out: str, config: MineConfig, part: Part) -> None:
    """Make the shards of one part; what an engine runs, here or on another machine."""
    workspace = Workspace(Path(out))
    split, start, stop = part.inputs
    folders = [workspace.part_folder("instruct", each) for each in workspace.parts("instruct")]
    place = workspace.folder / "write" / ROWS_IN_ORDER
    locations = read_locations(place, int(start), int(stop))
    rows = read_at([folder / ROWS for folder in folders], locations)
    annotated = cache(lambda number: annotator_of(folders[number]))
    chosen = ((Instructed.from_json(row), annotated(number)) for number, row in rows)
    workspace.make_part(
        SHARDS,
        part.name,
        part.key,
        lambda folder: _write_rows(chosen, split, workspace, config, folder),
    )


def _write_rows(
    rows: Iterable[tuple[Instructed, str]],
    split: str,
    workspace: Workspace,
    config: MineConfig,
    folder: Path,
) -> Funnel:
    """Rows of one split, with their annotators, into shards in a folder."""
    funnel = Funnel()
    encode = lru_cache(maxsize=64)(lambda sha256: _as_jpeg(workspace.image_path(sha256), config))
    with ShardWriter(folder, max_count=config.write.triplets_per_shard) as writer:
        for row, annotator in rows:
            pair = row.pair
            writer.write(
                Triplet(
                    key=pair.key,
                    query=encode(pair.query.sha256),
                    target=encode(pair.target.sha256),
                    instruction=row.instruction,
                    provenance=provenance(row, annotator, split),
                )
            )
            funnel.leave("triplets")
            funnel.facts[f"triplets in {split}"] += 1
    funnel.facts["shards"] = len(writer.shards)
    return funnel


def _place(workspace: Workspace, parts: Sequence[str]) -> list[str]:
    """Move the finished shards over those of an earlier run; returns their names under DIR."""
    for stale in shards_in(workspace.out):
        stale.unlink()
    placed: list[str] = []
    numbers: Counter[str] = Counter()
    for part in parts:
        folder = "val/" if part.startswith("val") else ""
        for shard in sorted(workspace.part_folder(SHARDS, part).glob("*.tar")):
            name = f"{folder}triplets-{numbers[folder]:06d}.tar"
            numbers[folder] += 1
            (workspace.out / name).parent.mkdir(exist_ok=True)
            shard.replace(workspace.out / name)
            placed.append(name)
    shutil.rmtree(workspace.folder / SHARDS, ignore_errors=True)
    return placed


def _as_jpeg(path: Path, config: MineConfig) -> bytes:
    """The image at most `max_side` large, without the original's metadata."""
    settings = config.write
    image = decode(path, at_least=settings.max_side).image
    image.thumbnail((settings.max_side, settings.max_side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=settings.jpeg_quality)
    return stream.getvalue()


def provenance(row: Instructed, annotator: str, split: str) -> dict[str, Any]:
    """Where a triplet comes from: enough to find it again, and to take it out on request."""
    pair = row.pair
    return {
        "page": pair.page,
        "site": pair.site,
        "page_title": pair.page_title,
        "split": split,
        "query": _image_facts(pair.query),
        "target": _image_facts(pair.target),
        "scores": pair.scores,
        "annotator": annotator,
        "writer": row.writer,
        "prompt_version": row.prompt_version,
        "relation": row.relation,
        "form": row.form,
        "made_by": f"lensctl {__version__}",
    }


def _image_facts(picture: Picture) -> dict[str, Any]:
    facts = dataclasses.asdict(picture)
    kept = ("url", "sha256", "width", "height", "label", "label_score", "generated_caption")
    return {"position": picture.mention.position, **{name: facts[name] for name in kept}}
