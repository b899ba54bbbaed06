"""`lensctl eval triplets`: any model on a data set of triplets, by the scores that training uses.

The candidates are all distinct target images and all distinct query images, so a model that gives
the query image back does not find the target.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lensctl.errors import DataError, PhotoError
from lensctl.models.interface import Floats, IndexSide, Model, QuerySide
from lensctl.models.vectors import unit
from lensctl.photos.decode import decode
from lensctl_training.benchmarks.methods import LABELS, WEIGHTS, Baseline, Progress
from lensctl_training.benchmarks.names import model_names
from lensctl_training.benchmarks.report import FORMAT, align, software
from lensctl_training.benchmarks.triplets import CUTOFFS, evaluate_triplets, share_answers
from lensctl_training.data.shards import read_triplets
from lensctl_training.data.triplet import Problems, Triplet

QUERY_BATCH = 64
COLUMNS = (*(f"recall@{k}" for k in CUTOFFS), "mrr", "reference_first")


@dataclass
class EncodedTriplets:
    """Triplets as embeddings, each distinct picture once.

    `queries` and `targets` are rows of `embeddings`, one for each triplet.
    """

    embeddings: Floats
    queries: list[int]
    targets: list[int]
    instructions: list[str]
    content_hash: str


@dataclass
class _Pictures:
    """Distinct pictures on their way through the encoder."""

    side: IndexSide
    batch_size: int
    rows: dict[bytes, int] = field(default_factory=dict)
    waiting: list[Floats] = field(default_factory=list)
    done: list[Floats] = field(default_factory=list)

    def add(self, content: bytes, where: str) -> int:
        """The row of the picture, which is decoded at its first mention."""
        digest = hashlib.sha256(content).digest()
        if digest not in self.rows:
            try:
                photo = decode(BytesIO(content), at_least=self.side.info.decoded_side)
            except PhotoError as error:
                raise DataError(
                    f"{where} cannot be decoded",
                    why=error.what,
                    next_step="lensctl train check DATA names every bad example",
                ) from error
            self.rows[digest] = len(self.rows)
            self.waiting.append(self.side.preprocess(photo.image))
            if len(self.waiting) >= self.batch_size:
                self.flush()
        return self.rows[digest]

    def flush(self) -> None:
        if self.waiting:
            self.done.append(self.side.encode_images(np.stack(self.waiting)))
            self.waiting.clear()


def encode_triplets(
    triplets: Iterable[Triplet],
    side: IndexSide,
    *,
    batch_size: int = 32,
    progress: Progress = lambda count: None,
) -> EncodedTriplets:
    """Read and encode all triplets. Raises DataError where a picture cannot be decoded."""
    pictures = _Pictures(side, batch_size)
    queries, targets, instructions = [], [], []
    for triplet in triplets:
        queries.append(pictures.add(triplet.query, f"the query image of {triplet.key}"))
        targets.append(pictures.add(triplet.target, f"the target image of {triplet.key}"))
        instructions.append(triplet.instruction)
        progress(1)
    if not queries:
        raise DataError("there is no triplet", next_step="lensctl train check DATA")
    pictures.flush()
    digest = hashlib.sha256(b"".join(pictures.rows))
    digest.update("\0".join(instructions).encode())
    return EncodedTriplets(
        np.concatenate(pictures.done), queries, targets, instructions, digest.hexdigest()
    )


def score_triplets(
    encoded: EncodedTriplets,
    model: Model,
    side: IndexSide,
    baselines: Sequence[Baseline] = (),
    name: str = "",
) -> dict[str, dict[str, float]]:
    """Scores by the name of the method: the model, then the baselines over its vectors.

    `name` replaces the model's own, which another model may share. The `sum` baseline's weight is
    searched on these very triplets and is part of its name.
    """
    query_side, name = model.query_side(), name or side.info.name
    targets = side.make_targets(encoded.embeddings)
    scores = {name: _score(encoded, _compose(encoded, query_side), targets)}
    if "image" in baselines:
        images = targets[encoded.queries]
        scores[f"{name}, {LABELS['image']}"] = _score(encoded, images, targets)
    if {"text", "sum"} & set(baselines):
        keys = side.text_keys(encoded.embeddings)
        words = _words(encoded, query_side)
        if "text" in baselines:
            scores[f"{name}, {LABELS['text']}"] = _score(encoded, words, keys)
        if "sum" in baselines:
            weight, best = _best_sum(encoded, keys, words)
            label = f"{name}, {LABELS['sum']} x{weight:g} (weight searched on this set)"
            scores[label] = best
    return scores


def _compose(encoded: EncodedTriplets, side: QuerySide) -> Floats:
    """(N, D): the model's own query vectors."""
    own = encoded.embeddings[encoded.queries]
    made = [
        side.make_queries(own[start : start + QUERY_BATCH], texts)
        for start, texts in _batches(encoded.instructions)
    ]
    return np.concatenate(made)


def _words(encoded: EncodedTriplets, side: QuerySide) -> Floats:
    """(N, T): the instructions alone."""
    return np.concatenate([side.encode_texts(texts) for _, texts in _batches(encoded.instructions)])


def _best_sum(
    encoded: EncodedTriplets, keys: Floats, words: Floats
) -> tuple[float, dict[str, float]]:
    """The weight with the highest recall@1 and its scores; the lighter one of equals."""
    tried = {
        weight: _score(encoded, unit(keys[encoded.queries] + np.float32(weight) * words), keys)
        for weight in WEIGHTS
    }
    best = max(WEIGHTS, key=lambda weight: tried[weight]["recall@1"])
    return best, tried[best]


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(texts), QUERY_BATCH):
        yield start, texts[start : start + QUERY_BATCH]


def _score(encoded: EncodedTriplets, queries: Floats, candidates: Floats) -> dict[str, float]:
    """One candidate a distinct picture: the targets' rows first, then the query images alone."""
    names = [str(row) for row in encoded.targets]
    questions = [f"{q}\0{t}" for q, t in zip(encoded.queries, encoded.instructions, strict=True)]
    positives, repeated = share_answers(names, questions)
    first = {row: place for place, row in reversed(list(enumerate(encoded.targets)))}
    others = sorted(set(encoded.queries) - set(encoded.targets))
    place = first | {row: len(names) + n for n, row in enumerate(others)}
    return evaluate_triplets(
        queries,
        candidates[encoded.targets],
        candidates[others],
        positives=positives,
        exclude=[repeated] * len(names),
        references=[place[row] for row in encoded.queries],
    )


def table(scores: dict[str, dict[str, float]]) -> str:
    """Aligned columns in percent."""
    first = next(iter(scores.values()))
    rows = [["method", "", *COLUMNS]]
    for name, values in scores.items():
        rows.append([name, "", *(f"{100 * values[column]:.2f}" for column in COLUMNS)])
    size = f"{first['queries']:.0f} queries, {first['candidates']:.0f} candidates (percent)"
    return "\n".join([size, *align(rows)])


def _read(data: Sequence[Path]) -> Iterator[Triplet]:
    """The triplets of shards and JSONL files; the first one that is not usable is refused."""
    problems = _FirstProblem()
    for place in data:
        if place.suffix.lower() == ".jsonl":
            # Its module knows torch, which the shards of a model without torch need not load.
            from lensctl_training.data.jsonl import read_jsonl_triplets

            yield from read_jsonl_triplets(place, problems)
        else:
            yield from read_triplets(place, problems)


class _FirstProblem(Problems):
    """Refuses at the first fault: a score on fewer triplets could not be compared."""

    def add(self, reason: str, where: str) -> None:
        raise DataError(
            f"the triplets cannot be scored: {reason}",
            why=f"{where}; a data set is a folder of .tar shards, a shard, or a .jsonl file",
            next_step="lensctl train check DATA names every bad example",
        )


def evaluate_data(
    data: list[Path],
    models: Sequence[Model],
    baselines: Sequence[Baseline],
    *,
    device: str,
    precision: str,
    batch_size: int,
    quiet: bool,
) -> dict[str, Any]:
    """Score every model on the triplets of shards or JSONL files; the JSON document of the run.

    Raises:
        UsageError: a model was given twice.
        DataError: there is no shard, a triplet is not whole, or a picture cannot be decoded.
    """
    scores: dict[str, dict[str, float]] = {}
    documents = []
    names = model_names([model.info for model in models])
    for name, model in zip(names, models, strict=True):
        side = model.index_side(device, precision)
        with tqdm(desc=f"{name}: triplets", unit="", disable=quiet or None) as bar:
            encoded = encode_triplets(_read(data), side, batch_size=batch_size, progress=bar.update)
        scores |= score_triplets(encoded, model, side, baselines, name)
        documents.append(
            {
                "label": name,
                "model": side.info.name,
                "encoder_fingerprint": side.info.encoder_fingerprint,
                "lens_fingerprint": side.info.lens_fingerprint,
                "device": side.device,
                "precision": side.precision,
                "content_hash": encoded.content_hash,
            }
        )
    return {
        "format": FORMAT,
        "data": [str(path) for path in data],
        "models": documents,
        "software": software(),
        "scores": scores,
    }
