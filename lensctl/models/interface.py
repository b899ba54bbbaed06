"""What every model offers, numpy in and numpy out.

A model has two sides that never need each other. `IndexSide` turns photos into kept vectors, in
batches, and may use torch and an accelerator. `QuerySide` answers one question in a fresh process
and never imports torch. Both preprocess with the same `Preprocessing`.

Three kinds of vectors, all float32:

- *embedding* (E wide): what the encoder says of a photo, unnormalised. It is kept, and everything
  else is derived from it, so a new lens needs no pixels.
- *target* (D wide, unit length): the lens applied to (photo, ""). Queries with an image are
  compared with targets.
- *text key* (T wide, unit length): the photo as text queries see it, derived from the embedding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Floats = npt.NDArray[np.float32]

MOST_LANES = 4
"""Batches encoded side by side at the most: each takes memory of its own."""

QueryKind = Literal["image", "composed", "text"]
"""image: (photo, ""); composed: (photo, instruction); text: words alone."""


@dataclass(frozen=True)
class ScoreCurve:
    """A calibrated relevance: 1 / (1 + exp(-slope * (cosine - midpoint)))."""

    slope: float
    midpoint: float

    def relevance(self, cosines: npt.ArrayLike) -> Floats:
        """Cosines of any shape -> relevances in 0 to 1, same shape, increasing."""
        x = self.slope * (np.asarray(cosines, dtype=np.float64) - self.midpoint)
        return (1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))).astype(np.float32)


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, readable without loading its weights.

    `encoder_fingerprint` covers backbone weights and preprocessing and owns the embedding;
    `lens_fingerprint` covers the fusion weights and owns target and text key. Precision and
    device are not part of either.
    """

    name: str
    encoder_fingerprint: str
    lens_fingerprint: str
    image_size: int
    embedding_dim: int
    target_dim: int
    text_dim: int
    licence: str
    description: str
    source: str = ""
    parameters: int = 0
    curves: dict[QueryKind, ScoreCurve] = field(default_factory=dict)
    decode_margin: float = 2.0
    """How many times `image_size` the shorter side of a photo is decoded at, at the least."""

    @property
    def decoded_side(self) -> int:
        """Shortest side in pixels that decoding at a reduced scale must keep."""
        return math.ceil(self.decode_margin * self.image_size)


class Preprocessor(Protocol):
    """RGB image -> pixels."""

    def __call__(self, image: "Image.Image") -> Floats:
        """An RGB image of any size -> (3, size, size) float32, normalised for the model."""
        ...


class QuerySide(Protocol):
    """Answers questions without torch."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        ...

    @property
    def preprocess(self) -> Preprocessor:
        """RGB image -> pixels."""
        ...

    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) pixels -> (N, E) embeddings, unnormalised."""
        ...

    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, D) unit targets: the lens applied to (photo, "")."""
        ...

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) embeddings and N instructions -> (N, D) unit queries, compared with targets.

        An empty instruction gives exactly the target of its embedding.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, T) unit vectors, compared with text keys."""
        ...

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, T) unit text keys."""
        ...

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads, so that its end is cut."""
        ...


class IndexSide(Protocol):
    """Turns photos into kept vectors, in batches, with torch where that is faster."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        ...

    @property
    def preprocess(self) -> Preprocessor:
        """RGB image -> pixels."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, as `--device` names it; kept with the vectors."""
        ...

    @property
    def precision(self) -> str:
        """fp32, bf16 or int8; kept with the vectors."""
        ...

    def share_cores(self) -> int:
        """How many threads should call `encode_images` at once; each call then takes its share.

        Threads within one call wait for one another at every layer, and wait long where decoding
        has taken a core; calls beside each other do not. To be asked before the first of them.
        """
        ...

    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) pixels -> (N, E) embeddings, unnormalised. Any N; N = 1 included."""
        ...

    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, D) unit targets."""
        ...

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, T) unit text keys."""
        ...


class Model(Protocol):
    """A named model that is present on this machine; nothing is loaded until a side is asked for.

    `lensctl.models.registry.open_model(name)` returns one.
    """

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        ...

    def query_side(self) -> QuerySide:
        """The torch-free side. Raises ModelError where a file is missing or damaged."""
        ...

    def index_side(self, device: str = "auto", precision: str = "auto") -> IndexSide:
        """The batch side.

        Args:
            device: auto, cpu, cuda or mps.
            precision: auto, fp32, bf16 or int8.
        """
        ...
