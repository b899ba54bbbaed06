"""Examples, batches of tensors, and in what order a map-style data set is read."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count, groupby, islice
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lensctl.models.interface import Floats
from lensctl.models.tokenizer import is_truncated, tokenize

TOO_FEW = "too few triplets to fill a batch"
MOST_TRIED = 100
"""Examples in a row that cannot be used, after which a data set is given up."""


class BadExampleError(Exception):
    """One example cannot be used: the reason, and which one it is."""

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{reason}: {where}")
        self.reason = reason
        self.where = where


@dataclass(frozen=True)
class Example:
    """A decoded triplet: pixels (3, S, S) float32 as the model reads them.

    With a frozen backbone `query` and `target` are (E,) embeddings instead, and `text` is the
    instruction's. `pictures` are digests of the files of query, target and negatives; empty where
    there are no files.
    """

    query: Floats
    target: Floats
    instruction: str
    negatives: tuple[Floats, ...] = ()
    text: Floats | None = None
    pictures: tuple[int, ...] = ()


class Examples(Protocol):
    """A data set with random access, the same in every process."""

    group_size: int
    """Examples side by side that stay together in a batch, being each other's hard negatives."""

    def __len__(self) -> int:
        """Number of examples; a multiple of `group_size`."""
        ...

    def load(self, index: int) -> Example:
        """One example. Raises BadExampleError where it cannot be used."""
        ...


class Batch(NamedTuple):
    """What one process sees in a step.

    Args:
        queries: (m, 3, S, S) float32 pixels, or (m, E) embeddings; m divides n, and each serves
            the n / m triplets that stand side by side, so that one image is encoded once.
        targets: (n, 3, S, S) or (n, E).
        ids: (n, T) int64 token ids, cut to the longest of the batch; empty with embeddings.
        negatives: (k, 3, S, S), or None; n divides k.
        texts: (n, E) embeddings of the instructions, or None.
        pictures: (n, 2 + k / n) int64 digests of the files of each triplet's query image, target
            and negatives; equal ones are of the same picture. None where there are no files, and in
            chunks: the loss needs those of the whole batch.
    """

    queries: Tensor
    targets: Tensor
    ids: Tensor
    negatives: Tensor | None = None
    texts: Tensor | None = None
    pictures: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in self))  # type: ignore[arg-type]

    def serve(self, rows: Tensor) -> Tensor:
        """(m, ...) of the query images -> (n, ...), one for every triplet."""
        return rows.repeat_interleave(len(self.targets) // len(rows), dim=0)

    def chunks(self, size: int) -> "list[Batch]":
        """The batch in pieces of `size` triplets; negatives go with their triplets."""
        rows = len(self.targets)
        if size <= 0 or size >= rows:
            return [self]
        served = rows // len(self.queries)
        if size % served:
            return self._replace(queries=self.serve(self.queries)).chunks(size)
        per_row = 0 if self.negatives is None else len(self.negatives) // rows
        return [
            Batch(
                self.queries[start // served : (start + size) // served],
                self.targets[start : start + size],
                self.ids[start : start + size],
                None
                if self.negatives is None
                else self.negatives[start * per_row : (start + size) * per_row],
                None if self.texts is None else self.texts[start : start + size],
            )
            for start in range(0, rows, size)
        ]


class Position(NamedTuple):
    """Where a reader of shards stands after a batch.

    Args:
        epoch: counted from 0.
        taken: triplets of this epoch that it has taken from the shuffle buffer.
        sizes: usable triplets in each shard of this epoch that it has read to the end, in order.
    """

    epoch: int = 0
    taken: int = 0
    sizes: tuple[int, ...] = ()


class Fetched(NamedTuple):
    """A batch, and what was met while making it.

    Args:
        batch: of this process; None where the data set is given up, for `problems`.
        fingerprint: of its contents: equal batches have equal ones.
        problems: (reason, where) of every example that was passed over.
        position: where the worker that made it stands in its stream; of no use for map-style data.
        cut: instructions in the batch whose end the text tower does not read.
    """

    batch: Batch | None
    fingerprint: str
    problems: list[tuple[str, str]]
    position: Position = Position()
    cut: int = 0


def fetch(
    examples: Sequence[Example],
    context_length: int,
    problems: list[tuple[str, str]],
    position: Position = Position(),
) -> Fetched:
    """Examples -> one batch with all that is told of it."""
    batch = collate(examples, context_length)
    cut = _count_cut(examples, batch.ids, context_length)
    return Fetched(batch, fingerprint(batch), problems, position, cut)


def _count_cut(examples: Sequence[Example], ids: Tensor, context_length: int) -> int:
    """Only a row without padding can be cut, and few have none."""
    if ids.shape[1] < context_length:
        return 0
    full = ids[:, -1].ne(0).nonzero().flatten().tolist()
    return sum(is_truncated(examples[row].instruction, context_length) for row in full)


def collate(examples: Sequence[Example], context_length: int) -> Batch:
    """Examples -> one batch; a query that neighbours share (one array) is in it once."""
    texts = [e.text for e in examples if e.text is not None]
    negatives = [pixels for e in examples for pixels in e.negatives]
    pictures = [e.pictures for e in examples if e.pictures]
    return Batch(
        queries=_stack(_shared([e.query for e in examples])),
        targets=_stack([e.target for e in examples]),
        ids=token_ids([] if texts else [e.instruction for e in examples], context_length),
        negatives=_stack(negatives) if negatives else None,
        texts=_stack(texts) if texts else None,
        pictures=torch.tensor(pictures) if pictures else None,
    )


def _shared(arrays: Sequence[Floats]) -> list[Floats]:
    """One of every run of the same array, where all runs are equally long; else all of them."""
    runs = [list(run) for _, run in groupby(arrays, key=id)]
    equal = len({len(run) for run in runs}) == 1
    return [run[0] for run in runs] if equal else list(arrays)


def _stack(arrays: Sequence[Floats]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def token_ids(texts: Sequence[str], context_length: int) -> Tensor:
    """(n, T) int64, T the longest text's length: what follows the end token is never read."""
    if not texts:
        return torch.zeros(0, 0, dtype=torch.int64)
    ids = np.stack([_tokens(text, context_length) for text in texts])
    return torch.from_numpy(ids[:, : int(ids.argmax(axis=1).max()) + 1])


@lru_cache(maxsize=2**16)
def _tokens(text: str, context_length: int) -> npt.NDArray[np.int64]:
    """Kept, as small data sets show the same instructions again and again."""
    return tokenize([text], context_length)[0]


def fingerprint(batch: Batch) -> str:
    """Eight hex digits that tell batches apart, for the log."""
    digest = 0
    for part in (batch.queries, batch.targets, batch.ids):
        digest = zlib.crc32(part.contiguous().numpy().tobytes(), digest)
    return f"{digest:08x}"


class GlobalOrder:
    """Which examples every step uses, from nothing but (seed, step).

    All processes know the order of the whole data set; each takes its part of the global batch.
    So the global batch does not depend on how many processes there are, and going on at step s
    needs no state but s. The last examples of an epoch that fill no batch wait for another one.
    """

    def __init__(self, examples: int, group: int, batch: int, seed: int) -> None:
        if batch % group:
            raise ValueError(f"groups of {group} do not fill a batch of {batch}")
        self.groups, self.group, self.batch, self.seed = examples // group, group, batch, seed
        self.steps_per_epoch = self.groups * group // batch
        if self.steps_per_epoch == 0:
            raise ValueError(f"{examples} examples do not fill one batch of {batch}")
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def indices(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """The examples of one process's part of the batch at `step`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            groups = np.random.default_rng((self.seed, epoch)).permutation(self.groups)
            self._order = (groups[:, None] * self.group + np.arange(self.group)).ravel()
            self._epoch = epoch
        part = self.batch // world
        start = place * self.batch + rank * part
        return self._order[start : start + part].tolist()


class Wanted(NamedTuple):
    """What one process reads for a step: its own examples of all those of the batch."""

    own: list[int]
    batch: list[int]


class IndexBatches:
    """The examples of one process from a step on, for ever: a DataLoader's batch sampler."""

    def __init__(self, order: GlobalOrder, start: int, rank: int, world: int) -> None:
        self.order, self.start, self.rank, self.world = order, start, rank, world

    def __iter__(self) -> Iterator[Wanted]:
        for step in count(self.start):
            yield Wanted(self.order.indices(step, self.rank, self.world), self.order.indices(step))


def load_usable(
    examples: Examples, wanted: Wanted, problems: list[tuple[str, str]]
) -> list[Example]:
    """The examples of a process; in place of a bad one the next that is not in the batch.

    Two processes that look for one at the same place may find the same.

    Args:
        examples: the data set.
        wanted: indices.
        problems: receives (reason, where) of what is passed over.

    Raises:
        BadExampleError: a hundred in a row cannot be used, or all others are in the batch.
    """
    taken = set(wanted.batch)
    return [_load_one(examples, index, taken, problems) for index in wanted.own]


def _load_one(
    examples: Examples, index: int, taken: set[int], problems: list[tuple[str, str]]
) -> Example:
    """Example `index` or a replacement, which is then among the `taken`."""
    number = len(examples)
    others = (p % number for p in range(index + 1, index + number) if p % number not in taken)
    for place in islice(chain((index,), others), MOST_TRIED):
        try:
            example = examples.load(place)
        except BadExampleError as bad:
            problems.append((bad.reason, bad.where))
            last = bad
        else:
            taken.add(place)
            return example
    if len(taken) + MOST_TRIED > number:
        problems.append((TOO_FEW, f"{number}, of which {len(taken)} are in the batch"))
    raise last
