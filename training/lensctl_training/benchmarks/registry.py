"""The eight benchmarks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lensctl.errors import UsageError
from lensctl_training.benchmarks import (
    circo,
    cirr,
    dtin,
    fashioniq,
    genecis,
    karpathy,
    tu_berlin,
)
from lensctl_training.benchmarks.benchmark import Benchmark
from lensctl_training.benchmarks.files import DataFolder


@dataclass(frozen=True)
class LoadOptions:
    """What a user can choose about reading a benchmark.

    Args:
        splits: "val", "test" or both, where the authors have a hidden test split.
        instruction: the text that goes with every sketch of TU-Berlin.
    """

    splits: tuple[str, ...] = ("val", "test")
    instruction: str = ""


_LOADERS: dict[str, Callable[[DataFolder, LoadOptions], Benchmark]] = {
    "fashioniq": lambda folder, options: fashioniq.load(folder),
    "cirr": lambda folder, options: cirr.load(folder, options.splits),
    "circo": lambda folder, options: circo.load(folder, options.splits),
    "genecis": lambda folder, options: genecis.load(folder),
    "dtin": lambda folder, options: dtin.load(folder),
    "tu-berlin": lambda folder, options: tu_berlin.load(folder, options.instruction),
    "flickr30k": lambda folder, options: karpathy.load_flickr30k(folder),
    "coco": lambda folder, options: karpathy.load_coco(folder),
}

NAMES = tuple(_LOADERS)


def load_benchmark(name: str, root: Path, options: LoadOptions | None = None) -> Benchmark:
    """Read a benchmark's files; no image is opened.

    Raises:
        UsageError: there is no benchmark of that name.
        DataError: a file is missing or is not what the benchmark needs.
    """
    if name not in _LOADERS:
        raise UsageError(
            f"there is no benchmark {name!r}",
            why=f"the benchmarks are {', '.join(NAMES)}",
            next_step="lensctl eval --help",
        )
    folder = DataFolder(root, name)
    try:
        return _LOADERS[name](folder, options or LoadOptions())
    except OSError as error:
        # Whether an image exists was asked of a folder without rights, or of an impossible name.
        raise folder.wrong(Path(error.filename or root), error.strerror or str(error)) from error
