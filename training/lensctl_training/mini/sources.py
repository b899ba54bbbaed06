"""What the lens is made of: all of it is looked for before the first of its hours."""

from collections.abc import Iterator
from pathlib import Path

from lensctl.errors import DependencyError
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified
from lensctl_training.mini.distil import PARTS_OF_SPEECH, TEACHER_VOCABULARY, TEACHER_WEIGHTS
from lensctl_training.mini.drawn import CLIP_ART, EMOJI_FONT
from lensctl_training.mini.views import SOURCES
from lensctl_training.mini.wordnet import DICTIONARY


def require_sources(*, views: bool, drawn: bool, text: bool) -> None:
    """See that all packages are there that the stages still to be done read.

    Args:
        views: whether photos are still to be embedded.
        drawn: whether drawings are.
        text: whether the text tower is still to be made.

    Raises:
        DependencyError: something is missing; it names all of that, and how to install each.
        CheckpointError: weights have another content.
    """
    missing: dict[str, str] = {}
    for path, command in _files(views=views, drawn=drawn):
        if not path.exists():
            missing.setdefault(command, f"there is no {path}")
    for file in (IMAGE_WEIGHTS, *((TEACHER_WEIGHTS, TEACHER_VOCABULARY) if text else ())):
        try:
            verified(file)
        except DependencyError as error:
            missing.setdefault(error.next_step, error.why)
    if missing:
        raise DependencyError(
            f"{len(missing)} of the packages that mini is made of are missing",
            why="; ".join(missing.values()),
            next_step="; ".join(missing),
        )


def _files(*, views: bool, drawn: bool) -> Iterator[tuple[Path, str]]:
    """Files and folders that have to be there, and what installs them."""
    wordnet = ("index.noun", *(f"data.{part}" for part in PARTS_OF_SPEECH))
    yield from ((DICTIONARY / name, "apt-get install wordnet-base") for name in wordnet)
    if views:
        for source, (folder, names) in SOURCES.items():
            package = source.partition(":")[0].removesuffix(" (Debian)")
            installer = "apt-get" if "(Debian)" in source else "pip"
            yield from ((folder / name, f"{installer} install {package}") for name in names)
    if drawn:
        yield EMOJI_FONT, "apt-get install fonts-noto-color-emoji"
        yield CLIP_ART, "apt-get install openclipart-png"
