"""`lensctl demo`: the main job on photos that a package ships, in a library of its own."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lensctl.cli.asking import Asked
from lensctl.cli.terminal import note
from lensctl.errors import DependencyError

if TYPE_CHECKING:
    from lensctl.library.library import Library

_QUERIES = (
    ("motorcycle_left.png", ""),
    ("chelsea.png", "in black and white"),
    ("", "a cup of coffee"),
)
_RESULTS = 3


def demo() -> None:
    """Index the sample photos of scikit-image and query them: image, image + words, words.

    Nothing is downloaded and nothing is kept.
    """
    photos = _photos()
    with tempfile.TemporaryDirectory(prefix="lensctl-demo-") as folder:
        _run(photos, Path(folder))


def _run(photos: Path, folder: Path) -> None:
    from lensctl.cli.index import index
    from lensctl.library.library import Library

    print(f"$ lensctl index {photos}")
    index([photos], library=folder)
    library = Library(folder)
    for name, words in _QUERIES:
        _ask(library, Asked(photos / name if name else None, words))
    note("\nyour own photos: lensctl index ~/Photos, then: lensctl query img.jpg")


def _ask(library: "Library", asked: Asked) -> None:
    from lensctl.cli.opening import model_for
    from lensctl.cli.results import as_results, print_results
    from lensctl.library.session import open_session

    told = " ".join(f'"{one}"' for one in asked.describe().values() if one)
    print(f"\n$ lensctl query {told}")
    with open_session(library, model_for(library, "")) as session:
        matches = session.find(asked.question(session), _RESULTS)
    print_results(asked.describe(), as_results(matches))


def _photos() -> Path:
    """The sample photos inside the scikit-image package, found without importing it.

    They are in the public domain, CC0, or free for any use as its README says of each.
    """
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DependencyError(
            "the demo's photos are not installed",
            why="they are part of the package scikit-image",
            next_step="pip install scikit-image",
        )
    return Path(spec.origin).parent / "data"
