"""`lensctl eval triplets`: any model on a data set of triplets, by the scores that training uses.

The candidates are all distinct target images and all distinct query images, so a model that gives
the query image back does not find the target.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lensctl.errors import DataError, PhotoError
from lensctl.models.interface import Floats, IndexSide, Model, QuerySide
from lensctl.models.vectors import unit
from lensctl.photos.decode import decode
from lensctl.whole import write_json, write_whole
from lensctl_training.benchmarks.bootstrap import CONFIDENCE, Estimate, estimate
from lensctl_training.benchmarks.methods import LABELS, WEIGHTS, Baseline, Progress
from lensctl_training.benchmarks.names import compared_pairs, model_names
from lensctl_training.benchmarks.report import (
    DIFFERENCES,
    FORMAT,
    align,
    difference_document,
    points,
    software,
)
from lensctl_training.benchmarks.triplets import (
    CUTOFFS,
    TripletRanks,
    rank_triplets,
    share_answers,
)
from lensctl_training.data.shards import read_triplets
from lensctl_training.data.triplet import Problems, Triplet

QUERY_BATCH = 64
TASK = "triplets"
COLUMNS = (*(f"recall@{k}" for k in CUTOFFS), "mrr", "reference_first")


@dataclass
class EncodedTriplets:
    """Triplets as embeddings, each distinct picture once.

    `queries` and `targets` are rows of `embeddings`, one for each triplet; `keys` are its names.
    """

    embeddings: Floats
    queries: list[int]
    targets: list[int]
    instructions: list[str]
    keys: list[str]
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
    queries, targets, instructions, keys = [], [], [], []
    for triplet in triplets:
        queries.append(pictures.add(triplet.query, f"the query image of {triplet.key}"))
        targets.append(pictures.add(triplet.target, f"the target image of {triplet.key}"))
        instructions.append(triplet.instruction)
        keys.append(triplet.key)
        progress(1)
    if not queries:
        raise DataError("there is no triplet", next_step="lensctl train check DATA")
    pictures.flush()
    digest = hashlib.sha256(b"".join(pictures.rows))
    digest.update("\0".join(instructions).encode())
    return EncodedTriplets(
        np.concatenate(pictures.done), queries, targets, instructions, keys, digest.hexdigest()
    )


def score_triplets(
    encoded: EncodedTriplets,
    model: Model,
    side: IndexSide,
    baselines: Sequence[Baseline] = (),
    name: str = "",
) -> dict[str, TripletRanks]:
    """Results by the name of the method: the model, then the baselines over its vectors.

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


def _best_sum(encoded: EncodedTriplets, keys: Floats, words: Floats) -> tuple[float, TripletRanks]:
    """The weight with the highest recall@1 and its results; the lighter one of equals."""
    tried = {
        weight: _score(encoded, unit(keys[encoded.queries] + np.float32(weight) * words), keys)
        for weight in WEIGHTS
    }
    best = max(WEIGHTS, key=lambda weight: tried[weight].values["recall@1"].mean())
    return best, tried[best]


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(texts), QUERY_BATCH):
        yield start, texts[start : start + QUERY_BATCH]


def _score(encoded: EncodedTriplets, queries: Floats, candidates: Floats) -> TripletRanks:
    """One candidate a distinct picture: the targets' rows first, then the query images alone."""
    names = [str(row) for row in encoded.targets]
    questions = [f"{q}\0{t}" for q, t in zip(encoded.queries, encoded.instructions, strict=True)]
    positives, repeated = share_answers(names, questions)
    first = {row: place for place, row in reversed(list(enumerate(encoded.targets)))}
    others = sorted(set(encoded.queries) - set(encoded.targets))
    place = first | {row: len(names) + n for n, row in enumerate(others)}
    return rank_triplets(
        queries,
        candidates[encoded.targets],
        candidates[others],
        positives=positives,
        exclude=[repeated] * len(names),
        references=[place[row] for row in encoded.queries],
    )


@dataclass(frozen=True)
class TripletReport:
    """All methods on one set of triplets.

    Args:
        data: the shards and files.
        keys: of the triplets, in order.
        ranks: method -> its results; a model before its baselines.
        models: for each method the model whose vectors it scores.
        details: what the JSON document says of each model.
    """

    data: Sequence[Path]
    keys: Sequence[str]
    ranks: dict[str, TripletRanks]
    models: Sequence[str]
    details: Sequence[dict[str, str]]

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Method -> measure -> its mean and interval."""
        return {
            name: dict(
                zip(
                    ranks.values,
                    estimate(np.stack([*ranks.values.values()], axis=1), self.keys),
                    strict=True,
                )
            )
            for name, ranks in self.ranks.items()
        }

    def differences(self) -> dict[tuple[str, str], dict[str, Estimate]]:
        """(method, the one that it is compared with) -> measure -> the difference."""
        names = list(self.ranks)
        return {
            (names[one], names[other]): {
                measure: mine - self.estimates[names[other]][measure]
                for measure, mine in self.estimates[names[one]].items()
            }
            for one, other in compared_pairs(names, self.models)
        }

    def document(self) -> dict[str, Any]:
        """The JSON document: scores, and what is needed to repeat them."""
        return {
            "format": FORMAT,
            "data": [str(path) for path in self.data],
            "models": list(self.details),
            "software": software(),
            "scores": {name: ranks.summary() for name, ranks in self.ranks.items()},
            "intervals": {
                name: {measure: found.interval for measure, found in each.items()}
                for name, each in self.estimates.items()
            },
            "interval_confidence": CONFIDENCE,
            "differences": [
                {"method": one, "reference": other, "measure": measure}
                | difference_document(difference)
                for (one, other), each in self.differences().items()
                for measure, difference in each.items()
            ],
        }

    def ranking_lines(self) -> Iterator[str]:
        """A JSON line for each query of each method, as `read_run` of `differences` reads them."""
        for name, ranks in self.ranks.items():
            rows = zip(*ranks.values.values(), ranks.best_ranks, ranks.tied, strict=True)
            for key, (*values, best, tied) in zip(self.keys, rows, strict=True):
                line = {
                    "method": name,
                    "task": TASK,
                    "query": key,
                    "values": [float(value) for value in values],
                    "best_rank": int(best),
                    "tied": bool(tied),
                }
                yield json.dumps(line) + "\n"

    def table(self) -> str:
        """Aligned columns in percent, and the differences below."""
        rows = [["method", "", *COLUMNS]]
        for name, estimates in self.estimates.items():
            rows.append([name, "", *(f"{100 * estimates[c].value:.2f}" for c in COLUMNS)])
        size = f"{len(self.keys)} queries, {self._candidates:.0f} candidates (percent)"
        return "\n".join([size, *align(rows), *self._difference_lines()])

    @property
    def _candidates(self) -> float:
        return next(iter(self.ranks.values())).candidates

    def _difference_lines(self) -> list[str]:
        found = self.differences()
        if not found:
            return []
        rows = [["measure", "", *(f"{one} - {other}" for one, other in found)]]
        rows += [[c, "", *(points(each[c]) for each in found.values())] for c in COLUMNS]
        return [DIFFERENCES, *align(rows)]


def write_triplet_report(report: TripletReport, out: Path) -> list[Path]:
    """Write the JSON document, and beside it a line for each query of each method."""
    rankings = rankings_of(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(rankings, "".join(report.ranking_lines()))
    write_json(out, report.document())
    return [out, rankings]


def rankings_of(out: Path) -> Path:
    """Where the results of the queries lie: `scores.rankings.jsonl` for `scores.json`."""
    return out.with_name(f"{out.stem}.rankings.jsonl")


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
) -> TripletReport:
    """Score every model on the triplets of shards or JSONL files.

    Raises:
        UsageError: a model was given twice.
        DataError: there is no shard, a triplet is not whole, or a picture cannot be decoded.
    """
    ranks: dict[str, TripletRanks] = {}
    owners: list[str] = []
    details = []
    keys: Sequence[str] = ()
    names = model_names([model.info for model in models])
    for name, model in zip(names, models, strict=True):
        side = model.index_side(device, precision)
        with tqdm(desc=f"{name}: triplets", unit="", disable=quiet or None) as bar:
            encoded = encode_triplets(_read(data), side, batch_size=batch_size, progress=bar.update)
        found = score_triplets(encoded, model, side, baselines, name)
        ranks |= found
        owners += [name] * len(found)
        keys = encoded.keys
        details.append(
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
    return TripletReport(data, keys, ranks, owners, details)
