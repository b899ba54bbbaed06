"""What a query vector is made of: the model's fusion, or a baseline from the same vectors.

model        the model's own answer to (image, text), compared with targets
image only   the image's own target, compared with targets; the text is not read
text only    the text alone, compared with text keys; the image is not read
sum          unit(text key of the image + weight * text vector), compared with text keys

The weight of `sum` is the best of WEIGHTS on the very queries that are scored: an upper bound that
no honest choice beats, and labelled so wherever it is printed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lensctl.models.interface import Floats, QuerySide
from lensctl.models.vectors import unit
from lensctl_training.benchmarks.benchmark import Benchmark, Query, Task
from lensctl_training.benchmarks.gallery import Gallery

Baseline = Literal["image", "text", "sum"]
LABELS: dict[Baseline, str] = {"image": "image only", "text": "text only", "sum": "sum"}
WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
QUERY_BATCH = 64

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Asked:
    """A task's queries as vectors, and what they are compared with."""

    queries: Floats
    candidates: Floats
    candidate_ok: np.ndarray


class QueryVectors:
    """Makes the query vectors of a benchmark's tasks; what two tasks share is made once.

    Args:
        benchmark: whose queries.
        gallery: the vectors of its images.
        side: the model's query side.
        progress: called with the number of queries encoded since the last call.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        gallery: Gallery,
        side: QuerySide,
        progress: Progress = lambda count: None,
    ) -> None:
        self.gallery = gallery
        self.side = side
        self.progress = progress
        self.texts = list(benchmark.texts)
        self.cut: set[str] = set()
        self._composed: dict[tuple[int, str], Floats] = {}
        self._words: dict[str, Floats] = {}

    def model(self, task: Task) -> Asked:
        """The model's own query vectors; for the caption tasks, its text vectors and text keys."""
        if task.direction == "image-to-text":
            rows = [_image(query) for query in task.queries]
            texts = self._encode_words(self.texts)
            return Asked(self.gallery.text_keys[rows], texts, np.ones(len(texts), dtype=bool))
        if task.direction == "text-to-image":
            return self._among_keys(self._encode_words([query.text for query in task.queries]))
        return Asked(self._compose(task.queries), self.gallery.targets, self.gallery.available)

    def baseline(self, task: Task, which: Baseline, weight: float = 1.0) -> Asked:
        """The query vectors of a baseline of a composed task."""
        rows = [_image(query) for query in task.queries]
        if which == "image":
            targets = self.gallery.targets
            return Asked(targets[rows], targets, self.gallery.available)
        words = self._encode_words([query.text for query in task.queries])
        if which == "text":
            return self._among_keys(words)
        return self._among_keys(unit(self.gallery.text_keys[rows] + np.float32(weight) * words))

    def _among_keys(self, queries: Floats) -> Asked:
        return Asked(queries, self.gallery.text_keys, self.gallery.available)

    def _compose(self, queries: Sequence[Query]) -> Floats:
        """(Q, D); an unreadable image gives a zero row, which is never ranked."""
        keys = [(_image(query), query.text) for query in queries]
        new = [k for k in dict.fromkeys(keys) if k not in self._composed]
        new = [k for k in new if self.gallery.available[k[0]]]
        for start in range(0, len(new), QUERY_BATCH):
            batch = new[start : start + QUERY_BATCH]
            embeddings = np.asarray(self.gallery.embeddings[[image for image, _ in batch]])
            texts = [text for _, text in batch]
            self._note_cut(texts)
            made = self.side.make_queries(embeddings, texts)
            self._composed.update(zip(batch, made, strict=True))
            self.progress(len(batch))
        nothing = np.zeros(self.gallery.targets.shape[1], dtype=np.float32)
        return np.stack([self._composed.get(key, nothing) for key in keys])

    def _encode_words(self, texts: Sequence[str]) -> Floats:
        """(len(texts), T)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._words]
        for start in range(0, len(new), QUERY_BATCH):
            batch = new[start : start + QUERY_BATCH]
            self._note_cut(batch)
            self._words.update(zip(batch, self.side.encode_texts(batch), strict=True))
            self.progress(len(batch))
        return np.stack([self._words[text] for text in texts])

    def _note_cut(self, texts: Sequence[str]) -> None:
        self.cut.update(text for text in texts if self.side.truncated(text))


def _image(query: Query) -> int:
    if query.image is None:
        raise ValueError(f"query {query.id} has no image")
    return query.image
