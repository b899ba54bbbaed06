"""Stage *write*: instructed pairs into the shards that `lensctl train` reads.

DIR/triplets-000000.tar ...      for training
DIR/val/triplets-000000.tar ...  of sites and with images of which nothing is in training
DIR/funnel.json, report.html, datasheet.md
"""

import dataclasses
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from lensctl import __version__
from lensctl.photos.decode import decode
from lensctl.whole import write_whole
from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.triplet import Triplet
from lensctl_training.mining.annotate import annotator_of
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel, total
from lensctl_training.mining.groups import ROWS
from lensctl_training.mining.records import Instructed, Picture, read_rows
from lensctl_training.mining.splits import divide
from lensctl_training.mining.workspace import DONE, Workspace, digest

STAGES_WITH_PARTS = ("pages", "fetch", "groups", "annotate", "pairs", "instruct")
_VERSION = 2


def write_shards(workspace: Workspace, config: MineConfig, unnamed: str = "unknown") -> Funnel:
    """Write shards, report and datasheet, unless they are there and up to date.

    Without a triplet only report and datasheet are written: shards of an earlier run stay.

    Args:
        workspace: what the stages before made.
        config: the settings.
        unnamed: the annotator of parts that do not name one; an older version made them.
    """
    from lensctl_training.mining.report import write_report

    parts = workspace.parts("instruct")
    keys = [workspace.done_key("instruct", part) for part in parts]
    annotators = {part: _annotator(workspace, part, unnamed) for part in parts}
    named = ", ".join(sorted(set(annotators.values())))
    key = digest(_VERSION, keys, repr(config.write), config.groups.hash_distance, named)
    folder = workspace.folder / "write"
    done = _read_done(folder / DONE)
    if done and done["key"] == key and all((workspace.out / s).is_file() for s in done["shards"]):
        return Funnel.from_json(done["funnel"])
    (folder / DONE).unlink(missing_ok=True)
    funnel = Funnel()
    found = sorted(_annotated_rows(workspace, annotators), key=lambda item: item[0].pair.key)
    divided = divide([row for row, _ in found], config, funnel)
    rows = [found[place][0] for place, _ in divided]
    chosen = ((*found[place], split) for place, split in divided)
    shards = _place(workspace, _write(chosen, workspace, config, funnel)) if rows else []
    write_report(workspace, config, rows, all_funnels(workspace) | {"write": funnel}, named)
    if not rows:
        return funnel
    done = {"key": key, "shards": shards, "funnel": funnel.as_json()}
    write_whole(folder / DONE, json.dumps(done, indent=1))
    return funnel


def instructed_rows(workspace: Workspace) -> Iterator[Instructed]:
    """Everything that *instruct* wrote."""
    parts = dict.fromkeys(workspace.parts("instruct"), "")
    return (row for row, _ in _annotated_rows(workspace, parts))


def _annotated_rows(
    workspace: Workspace, annotators: Mapping[str, str]
) -> Iterator[tuple[Instructed, str]]:
    """The rows of some parts of *instruct*, each with its annotator."""
    for part, annotator in annotators.items():
        for row in read_rows(workspace.part_folder("instruct", part) / ROWS):
            yield Instructed.from_json(row), annotator


def _annotator(workspace: Workspace, part: str, unnamed: str) -> str:
    return annotator_of(workspace.part_folder("instruct", part)) or unnamed


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
    rows: Iterable[tuple[Instructed, str, str]],
    workspace: Workspace,
    config: MineConfig,
    funnel: Funnel,
) -> Path:
    """All shards into a fresh folder under work/, of rows with their annotators and splits."""
    fresh = workspace.folder / "write" / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    encode = lru_cache(maxsize=64)(lambda sha256: _as_jpeg(workspace.image_path(sha256), config))
    limit = config.write.triplets_per_shard
    with (
        ShardWriter(fresh, max_count=limit) as train,
        ShardWriter(fresh / "val", max_count=limit) as val,
    ):
        for row, annotator, split in rows:
            writer = val if split == "val" else train
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
    return fresh


def _place(workspace: Workspace, fresh: Path) -> list[str]:
    """Move the finished shards over those of an earlier run; returns their names under DIR."""
    for stale in shards_in(workspace.out):
        stale.unlink()
    placed = []
    for shard in sorted(fresh.rglob("*.tar")):
        name = shard.relative_to(fresh)
        (workspace.out / name).parent.mkdir(exist_ok=True)
        shard.replace(workspace.out / name)
        placed.append(str(name))
    shutil.rmtree(fresh, ignore_errors=True)
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
