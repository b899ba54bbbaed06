"""`lensctl demo`: the main job on photos that a package ships, in a library of its own."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lensctl.cli.asking import Asked
from lensctl.cli.terminal import note
from lensctl.errors import DependencyError
from lensctl.whole import temporary_folder

if TYPE_CHECKING:
    from lensctl.library.library import Library

_QUERIES = (
    ("motorcycle_left.png", ""),
    ("astronaut.png", "a rocket"),
    ("", "a cup of coffee"),
)
_NOT_PHOTOS = ("*.tif", "chess*", "color.png", "logo.png", "page.png", "phantom.png", "text.png")
_RESULTS = 3


def demo() -> None:
    """Index the sample photos of scikit-image and query them: image, image + words, words.

    Nothing is downloaded and nothing is kept.
    """
    photos = _photos()
    with temporary_folder("lensctl-demo-") as folder:
        _run(photos, folder)


def _run(photos: Path, folder: Path) -> None:
    from lensctl.cli.index import index
    from lensctl.library.library import Library
    from lensctl.models.home import EMBEDDED

    print(f"$ lensctl index {photos}")
    index([photos], library=folder, model=EMBEDDED, exclude=list(_NOT_PHOTOS))
    for name, words in _QUERIES:
        _ask(Library(folder), photos, name, words)
    note("\nyour own photos: lensctl index ~/Photos, then: lensctl query img.jpg")


def _ask(library: "Library", photos: Path, name: str, words: str) -> None:
    from lensctl.cli.results import as_results, print_results
    from lensctl.library.session import open_session
    from lensctl.models.home import EMBEDDED
    from lensctl.models.registry import open_model

    told = " ".join(one for one in (name, f'"{words}"' if words else "") if one)
    print(f"\n$ lensctl query {told}")
    asked = Asked(photos / name if name else None, words)
    with open_session(library, open_model(EMBEDDED)) as session:
        results = as_results(session.find(asked.question(session), _RESULTS))
    # Beside the query, the file's name says enough.
    shown = [replace(one, path=one.path.rpartition(b"/")[2]) for one in results]
    print_results(asked.describe(), shown)


def _photos() -> Path:
    """The sample photos inside the scikit-image package, found without importing it.

    The documentation of `skimage.data` states the source and licence of each.
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
