"""`mini` behind the model interface: one encoder, which both sides use."""

import os

import numpy as np

from lensctl.errors import UsageError
from lensctl.models.interface import MOST_LANES, Floats, ModelInfo
from lensctl.models.mini import image_tower, statistics
from lensctl.models.mini.fusion import FILE as FUSION
from lensctl.models.mini.fusion import Fusion
from lensctl.models.mini.image_tower import SIZE, ImageTower, WeightFile
from lensctl.models.mini.info import DATA, mini_info
from lensctl.models.mini.lens import FILE, Lens
from lensctl.models.mini.packages import IMAGE_WEIGHTS, locate, verified
from lensctl.models.mini.relations import FILE as RELATIONS
from lensctl.models.mini.relations import Relations
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import FILE as TEXT
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import Words
from lensctl.models.preprocessing import Preprocessing

MEAN, STD = 127.0, 128.0
PREPROCESSING = Preprocessing(
    size=SIZE,
    mode="squash",
    interpolation="bicubic",
    mean=(MEAN / 255,) * 3,
    std=(STD / 255,) * 3,
)


class Encoder:
    """Pixels -> embeddings, with the tower loaded on first use.

    A query by a library's photo has its embedding and never needs the tower.
    """

    def __init__(self, weights: WeightFile) -> None:
        self.threads = 0
        self._weights = weights
        self._tower: ImageTower | None = None

    @property
    def tower(self) -> ImageTower:
        """The network up to its feature map."""
        if self._tower is None:
            self._tower = ImageTower(self._weights, DATA / image_tower.GRAPH, threads=self.threads)
        return self._tower

    def __call__(self, pixels: Floats) -> Floats:
        """(N, 3, 240, 240) -> (N, E): the pooled features, then the statistics."""
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        features = self.tower.feature_map(pixels).mean(axis=(2, 3))
        light = statistics.measure(pixels, STD / 255, MEAN / 255)
        return np.concatenate([features, light], axis=1)


class MiniSide:
    """Both `interface.IndexSide` and, where words are given, `interface.QuerySide`."""

    def __init__(self, info: ModelInfo, maps: TensorFile, words: Words | None = None) -> None:
        weights = WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT)
        self.info = info
        self.preprocess = PREPROCESSING
        self.device = "cpu"
        self.precision = "fp32"
        self.encode_images = Encoder(weights)
        self.words = words
        fusion = relations = None
        if words is not None:
            fusion = Fusion(TensorFile(DATA / FUSION))
            relations = Relations(TensorFile(DATA / RELATIONS))
        self.lens = Lens(maps, weights, words, fusion, relations)
        self.make_targets = self.lens.make_targets
        self.make_queries = self.lens.make_queries
        self.encode_texts = self.lens.encode_texts
        self.text_keys = self.lens.text_keys

    def share_cores(self) -> int:
        """One thread for each call, up to MOST_LANES calls beside each other."""
        lanes = min(os.cpu_count() or 1, MOST_LANES)
        self.encode_images.threads = 1
        return lanes

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads, so that its end is cut."""
        return self.words is not None and self.words.truncated(text)


class MiniModel:
    """Implements `interface.Model`."""

    def __init__(self) -> None:
        locate(IMAGE_WEIGHTS)
        self.info = mini_info()

    def query_side(self) -> MiniSide:
        """The side that answers questions.

        Raises:
            DependencyError: a package is not installed.
            CheckpointError: a package's file is not the expected one.
        """
        maps = TensorFile(DATA / FILE)
        return MiniSide(self.info, maps, Words(maps, TextTower(DATA / TEXT)))

    def index_side(self, device: str = "auto", precision: str = "auto") -> MiniSide:
        """The batch side.

        Raises:
            UsageError: a device or precision that this model does not run on.
        """
        if device not in ("auto", "cpu") or precision not in ("auto", "fp32"):
            raise UsageError(
                f"the model mini does not run on {device} in {precision}",
                why="its encoder is small and runs on the CPU in fp32",
                next_step="leave --device and --precision out",
            )
        return MiniSide(self.info, TensorFile(DATA / FILE))
