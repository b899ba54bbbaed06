"""The torch-free side of a model folder: three small onnxruntime sessions, opened when needed.

A query by a library photo runs the text tower and the fusion, an image-only query the fusion
alone; only an outside photo opens the image tower. Weights are mapped from `model.safetensors`.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from lensctl.errors import ModelError
from lensctl.models.accelerator import multiplies_integers
from lensctl.models.folder import (
    EMPTY_TEXT,
    FUSION,
    IMAGE,
    INT8_IMAGE,
    INT8_TEXT,
    TEXT,
    WEIGHTS,
    ModelFolder,
    codes_of,
)
from lensctl.models.interface import Floats, Preprocessor
from lensctl.models.safetensors_file import read_layout
from lensctl.models.tokenizer import is_truncated, token_ids, tokenize
from lensctl.models.vectors import UNIT_NORM_EPS


class OnnxQuerySide:
    """Implements `interface.QuerySide`.

    Args:
        folder: of the model.
        exact: use the towers in float32 even where there are some in integers.
    """

    def __init__(self, folder: ModelFolder, *, exact: bool = False) -> None:
        self.info = folder.info
        self.preprocess: Preprocessor = folder.config.preprocessing
        self._folder = folder
        self._exact = exact
        self._context_length = folder.context_length
        read_layout(folder.file(WEIGHTS))

    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) pixels -> (N, E) embeddings, unnormalised."""
        return self._finite(self._image_tower(pixels=pixels.astype(np.float32, copy=False)))

    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, D) unit targets: the lens applied to (photo, "")."""
        empty = np.broadcast_to(self._empty_text, embeddings.shape)
        return self._fuse(embeddings, empty)

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) embeddings and N instructions -> (N, D) unit queries, compared with targets."""
        return self._finite(self._fuse(embeddings, self._embed_texts(instructions)))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, T) unit vectors, compared with text keys."""
        return self._finite(unit(self._embed_texts(texts)))

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, T) unit text keys."""
        return unit(embeddings)

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads, so that its end is cut."""
        return is_truncated(text, self._context_length)

    def _fuse(self, embeddings: Floats, texts: Floats) -> Floats:
        images = embeddings.astype(np.float32, copy=False)
        return self._fusion(images=images, texts=np.ascontiguousarray(texts))

    def _finite(self, vectors: Floats) -> Floats:
        """Not asked of targets: an index refuses the one photo whose vector is not."""
        if not np.isfinite(vectors).all():
            raise damaged(self._folder, WEIGHTS, "it gives vectors that are not finite")
        return vectors

    def _embed_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, E), unnormalised; texts without words share the kept embedding."""
        out = np.tile(self._empty_text, (len(texts), 1))
        worded = [row for row, text in enumerate(texts) if len(token_ids(text)) > 2]
        if worded:
            ids = tokenize([texts[row] for row in worded], self._context_length)
            out[worded] = self._text_tower(ids=self._shortened(ids))
        return out

    def _shortened(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Without the padding after the longest text: a causal tower never looks there."""
        if not self._folder.variable_text_length:
            return ids
        return ids[:, : int(ids.argmax(axis=1).max()) + 1]

    @cached_property
    def _empty_text(self) -> Floats:
        return read_empty_text(self._folder)

    @cached_property
    def _text_tower(self) -> Callable[..., Floats]:
        return self._open_tower(TEXT, INT8_TEXT)

    @cached_property
    def _image_tower(self) -> Callable[..., Floats]:
        return self._open_tower(IMAGE, INT8_IMAGE)

    @cached_property
    def _fusion(self) -> Callable[..., Floats]:
        return open_graph(self._folder, FUSION, session_options())

    def _open_tower(self, exact: str, integers: str) -> Callable[..., Floats]:
        fast = integers in self._folder.files and multiplies_integers() and not self._exact
        return open_graph(self._folder, integers if fast else exact, session_options())


def read_empty_text(folder: ModelFolder) -> Floats:
    """(1, E): the kept embedding of "". Raises ModelError where it is missing or damaged."""
    path = folder.file(EMPTY_TEXT)
    try:
        vector: Floats = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise damaged(folder, EMPTY_TEXT, str(error)) from error
    if vector.shape != (1, folder.info.embedding_dim) or vector.dtype != np.float32:
        raise damaged(folder, EMPTY_TEXT, "it holds something else")
    if not np.isfinite(vector).all():
        raise damaged(folder, EMPTY_TEXT, "it is not finite")
    return vector


def unit(vectors: Floats) -> Floats:
    """(N, D) -> (N, D) float32 of unit length; zero stays zero.

    Not `vectors.unit`: the epsilon is under the root, as in the fusions of torch and onnx, so that
    a vector near zero becomes the same here as there.
    """
    vectors = vectors.astype(np.float32, copy=False)
    squares = np.einsum("nd,nd->n", vectors, vectors)[:, None]
    return vectors / np.sqrt(squares + np.float32(UNIT_NORM_EPS))


def shared_options() -> ort.SessionOptions:
    """Options for a process that does other work, too: threads do not spin between two operators,
    nor after the last one on the core that the search or a decoder needs next."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def session_options() -> ort.SessionOptions:
    """Options for a process that asks once: weights stay mapped where they are.

    onnxruntime would copy every weight into a layout that is faster in the long run, and rewrite
    the graph; for a few queries that costs more than it saves.
    """
    options = shared_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def open_session(
    folder: ModelFolder, name: str, options: ort.SessionOptions
) -> ort.InferenceSession:
    """A graph of the folder on the CPU. Raises ModelError where it is missing or damaged."""
    path = folder.file(name)
    if name in (INT8_IMAGE, INT8_TEXT):
        folder.file(codes_of(name))
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise damaged(folder, name, _first_line(error)) from error


def open_graph(
    folder: ModelFolder, name: str, options: ort.SessionOptions
) -> Callable[..., Floats]:
    """A function of the graph's inputs by name: (N, E), float32. It and this raise ModelError."""
    return checked(partial(run_session, open_session(folder, name, options)), folder, name)


def checked(graph: Callable[..., Floats], folder: ModelFolder, name: str) -> Callable[..., Floats]:
    """The function of a graph, with ModelErrors for its own, and for what is not (N, E)."""

    def run(**inputs: npt.NDArray[np.generic]) -> Floats:
        try:
            vectors = graph(**inputs)
        except Exception as error:  # the runtimes' errors share no public base class
            raise damaged(folder, name, _first_line(error)) from error
        if vectors.ndim != 2 or vectors.shape[1] != folder.info.embedding_dim:
            raise damaged(folder, name, f"it gives vectors of the shape {vectors.shape}")
        return vectors

    return run


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def run_session(session: ort.InferenceSession, **inputs: npt.NDArray[np.generic]) -> Floats:
    """The graph's only output, float32."""
    return np.asarray(session.run(None, inputs)[0], dtype=np.float32)


def damaged(folder: ModelFolder, name: str, why: str) -> ModelError:
    """For a file of the folder that cannot be used."""
    return ModelError(
        f"{name} of the model {folder.info.name!r} cannot be used",
        why=why,
        next_step="pull or convert the model again",
    )
