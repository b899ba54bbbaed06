"""Stage *annotate*: vectors, labels and captions for every distinct image and description."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats, IndexSide, QuerySide
from lensctl.photos.decode import decode
from lensctl_training.batching import in_batches
from lensctl_training.mining.captioner import open_captioner
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.groups import ROWS
from lensctl_training.mining.labels import LABELS
from lensctl_training.mining.phrases import describe
from lensctl_training.mining.records import Group, read_rows, write_rows
from lensctl_training.mining.workspace import Part, Workspace

IMAGE_VECTORS = "images.npy"
TEXT_VECTORS = "texts.npy"
_ANNOTATOR = "annotator.json"


def run_annotate(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Annotate the pictures of some sites.

    Writes the groups with labels and vector rows, unit image targets (`images.npy`, float16,
    a row for each distinct image), unit text vectors of all descriptions (`texts.npy`) and the
    model's name (`annotator.json`), which the later stages hand on.
    """
    funnel = Funnel()
    groups = list(groups_in(workspace.part_folder("groups", part.inputs[0])))
    images = list(dict.fromkeys(p.sha256 for group in groups for p in group.pictures))
    funnel.enter("images", len(images))
    vectors, labels = _look_at(images, workspace, config)
    captions = open_captioner(workspace, config).caption(images, funnel)
    funnel.leave("images", len(images))
    np.save(out / IMAGE_VECTORS, vectors.astype(np.float16))
    rows = {sha256: row for row, sha256 in enumerate(images)}
    annotated = [_annotated(group, rows, labels, captions) for group in groups]
    annotated, text_vectors = _read_words(annotated, config)
    np.save(out / TEXT_VECTORS, text_vectors.astype(np.float16))
    write_rows(out / ROWS, annotated)
    (out / _ANNOTATOR).write_text(json.dumps(config.model), encoding="utf-8")
    return funnel


def _annotated(
    group: Group,
    rows: dict[str, int],
    labels: Sequence[tuple[str, float]],
    captions: dict[str, str],
) -> Group:
    pictures = tuple(
        replace(
            picture,
            vector=rows[picture.sha256],
            label=labels[rows[picture.sha256]][0],
            label_score=labels[rows[picture.sha256]][1],
            generated_caption=captions.get(picture.sha256, ""),
        )
        for picture in group.pictures
    )
    return replace(group, pictures=pictures)


def _look_at(
    images: Sequence[str], workspace: Workspace, config: MineConfig
) -> tuple[Floats, list[tuple[str, float]]]:
    """Unit targets (N, D) and the best label with its cosine, for images of the store."""
    side = _index_side(config.model, config.device)
    label_vectors = _label_vectors(config.model)
    targets = [np.zeros((0, side.info.target_dim), np.float32)]
    labels: list[tuple[str, float]] = []
    for batch in in_batches(images, config.batch_size):
        pixels = np.stack([_pixels(workspace.image_path(sha256), side) for sha256 in batch])
        embeddings = side.encode_images(pixels)
        targets.append(side.make_targets(embeddings))
        similarity = side.text_keys(embeddings) @ label_vectors.T
        labels += [(LABELS[int(row.argmax())], round(float(row.max()), 4)) for row in similarity]
    return np.concatenate(targets), labels


def _pixels(path: Path, side: IndexSide) -> Floats:
    return side.preprocess(decode(path, at_least=side.info.decoded_side).image)


def _read_words(groups: Sequence[Group], config: MineConfig) -> tuple[list[Group], Floats]:
    """The groups with the row of each picture's description, and the descriptions' vectors."""
    texts = list(dict.fromkeys(describe(p) for group in groups for p in group.pictures))
    rows = {text: row for row, text in enumerate(texts)}
    side = _query_side(config.model)
    pieces = [np.zeros((0, side.info.text_dim), np.float32)]
    pieces += [side.encode_texts(batch) for batch in in_batches(texts, config.batch_size)]
    worded = [
        replace(
            group,
            pictures=tuple(replace(p, text_vector=rows[describe(p)]) for p in group.pictures),
        )
        for group in groups
    ]
    return worded, np.concatenate(pieces)


# A worker loads its model once, however many parts it is given.
@cache
def _index_side(model: str, device: str) -> IndexSide:
    return _open(model).index_side(device=device)


@cache
def _query_side(model: str) -> QuerySide:
    return _open(model).query_side()


@cache
def _label_vectors(model: str) -> Floats:
    return _query_side(model).encode_texts(list(LABELS))


def fingerprints(model: str) -> tuple[str, str]:
    """What the vectors depend on: a model of the same name may get new weights."""
    info = _open(model).info
    return info.encoder_fingerprint, info.lens_fingerprint


def annotator_of(part: Path) -> str:
    """The model that annotated what a part was made from."""
    return str(json.loads((part / _ANNOTATOR).read_text(encoding="utf-8")))


def hand_on_annotator(source: Path, out: Path) -> None:
    """A part says itself who annotated its rows: `source` may be annotated anew without it."""
    shutil.copyfile(source / _ANNOTATOR, out / _ANNOTATOR)


def _open(model: str):  # type: ignore[no-untyped-def]
    from lensctl.models.registry import open_model

    return open_model(model)


def groups_in(folder: Path) -> Iterator[Group]:
    """The groups in a part of *groups* or *annotate*."""
    return (Group.from_json(row) for row in read_rows(folder / ROWS))
