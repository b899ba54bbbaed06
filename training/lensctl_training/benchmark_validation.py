"""CIRR and CIRCO validation during training, by the benchmark code, on the model in memory."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lensctl.errors import DataError
from lensctl.models.interface import Floats, IndexSide, ModelInfo, Preprocessor, QuerySide
from lensctl.models.tokenizer import is_truncated
from lensctl.models.vectors import unit
from lensctl_training.benchmarks.benchmark import Benchmark
from lensctl_training.benchmarks.gallery import missing_images
from lensctl_training.benchmarks.registry import LoadOptions, load_benchmark
from lensctl_training.benchmarks.run import EvalOptions, evaluate
from lensctl_training.data.batches import token_ids
from lensctl_training.model import TripletEncoder
from lensctl_training.recipe import ValidationRecipe
from lensctl_training.validation import BATCH


def open_benchmarks(recipe: ValidationRecipe) -> list[Benchmark]:
    """The validation splits of CIRR and CIRCO, where the recipe gives folders; no image is opened.

    Raises:
        DataError: a folder is not the benchmark's, or images are missing.
    """
    places = {"cirr": recipe.cirr, "circo": recipe.circo}
    reading = LoadOptions(splits=("val",))
    found = [load_benchmark(name, Path(place), reading) for name, place in places.items() if place]
    for benchmark in found:
        missing = missing_images(benchmark.images)
        if missing:
            raise DataError(
                f"{benchmark.name}: {len(missing)} of {len(benchmark.images)} images are missing",
                why=f"such as {benchmark.images[missing[0]].path}",
                next_step=f"complete the data, or leave out validation.{benchmark.name}",
            )
    return found


def measures(benchmarks: Sequence[Benchmark]) -> list[str]:
    """The names of what `validate_benchmarks` gives; larger is better in all of them."""
    return [
        f"{benchmark.name}/{measure.name}"
        for benchmark in benchmarks
        for task in benchmark.tasks
        for measure in task.measures
    ]


def cost(benchmarks: Sequence[Benchmark], every: int) -> str:
    """A line on what validation takes, for the start of a run."""
    images = " and ".join(f"{len(one.images):,} images of {one.name}" for one in benchmarks)
    return f"validation decodes and encodes {images} anew every {every:,} steps"


def validate_benchmarks(
    encoder: TripletEncoder, benchmarks: Sequence[Benchmark], workers: int = 0
) -> dict[str, float]:
    """`cirr/MEASURE` and `circo/MEASURE` of the model.

    Args:
        encoder: its image tower runs in the precision that it is trained in.
        benchmarks: of `open_benchmarks`.
        workers: threads that decode images; two at least.

    Raises:
        DataError: images cannot be read.
    """
    scores: dict[str, float] = {}
    training = encoder.training
    encoder.eval()
    for benchmark in benchmarks:
        # The vectors of a model in training are of no use to anyone later.
        with tempfile.TemporaryDirectory() as cache:
            options = EvalOptions(
                Path(cache), batch_size=BATCH, workers=max(2, workers), quiet=True
            )
            report = evaluate(benchmark, [ModelInMemory(encoder)], options)
        for task in report.methods[0].tasks:
            values = task.values.items()
            scores |= {f"{benchmark.name}/{measure}": value for measure, value in values}
    encoder.train(training)
    return scores


class ModelInMemory:
    """A TripletEncoder behind lensctl.models.interface: Model, QuerySide and IndexSide in one."""

    def __init__(self, encoder: TripletEncoder) -> None:
        self.encoder = encoder
        self.precision = "bf16" if encoder.bf16 else "fp32"
        self.device = str(encoder.empty_ids.device)
        self.preprocess: Preprocessor = encoder.model.config.preprocessing
        width = encoder.model.embedding_dim
        self.info = ModelInfo(
            name="in-training",
            encoder_fingerprint="in-training",
            lens_fingerprint="in-training",
            image_size=encoder.model.config.preprocessing.size,
            embedding_dim=width,
            target_dim=width,
            text_dim=width,
            licence="",
            description="the model being trained",
        )

    def query_side(self) -> QuerySide:
        """Itself."""
        return self

    def index_side(self, device: str = "auto", precision: str = "auto") -> IndexSide:
        """Itself, on the device it is on."""
        return self

    def share_cores(self) -> int:
        """Training has its own way with the cores: one call at a time."""
        return 1

    @torch.no_grad()
    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) -> (N, E)."""
        device = self.encoder.empty_ids.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.encoder.bf16):
            embeddings = self.encoder.embed_images(self._tensor(pixels))
        return embeddings.float().cpu().numpy()

    @torch.no_grad()
    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, D)."""
        return self.encoder.encode_targets(self._tensor(embeddings)).cpu().numpy()

    @torch.no_grad()
    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) and N instructions -> (N, D)."""
        texts = self.encoder.embed_texts(self._ids(instructions))
        return self.encoder.fuse(self._tensor(embeddings), texts).float().cpu().numpy()

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, E) unit vectors."""
        return unit(self.encoder.embed_texts(self._ids(texts)).float().cpu().numpy())

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, E) unit vectors."""
        return unit(embeddings)

    def truncated(self, text: str) -> bool:
        """Whether the text is longer than the model reads."""
        return is_truncated(text, self.encoder.model.context_length)

    def _ids(self, texts: Sequence[str]) -> torch.Tensor:
        return token_ids(texts, self.encoder.model.context_length).to(self.device)

    def _tensor(self, values: Floats) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)
