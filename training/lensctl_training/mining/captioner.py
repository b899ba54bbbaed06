"""Captions of images: none, open_clip's CoCa, or a vision model behind an endpoint."""

import base64
import io
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import safetensors

from lensctl.errors import CheckpointError, DependencyError, ModelError, UsageError
from lensctl.photos.decode import decode
from lensctl_training.batching import in_batches
from lensctl_training.mining import prompts
from lensctl_training.mining.config import COCA, MineConfig
from lensctl_training.mining.endpoint import Endpoint, EndpointSettings, UnansweredError
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.text import collapse
from lensctl_training.mining.workspace import Workspace

_SIDE = 512


_BAD_WEIGHTS = (
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    AttributeError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Captioner(Protocol):
    """Writes captions for images of the store."""

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        """SHA-256s -> captions; an image without one is left out."""
        ...


class NoCaptioner:
    """The words of the page are all there is."""

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        return {}


class EndpointCaptioner:
    """A vision model behind an OpenAI-compatible address."""

    def __init__(self, workspace: Workspace, config: MineConfig) -> None:
        check_captioner(config)
        self._workspace = workspace
        self._settings = config.instruct
        self._endpoint = EndpointSettings(
            address=config.captioner,
            model=config.captioner_model,
            timeout_s=config.instruct.timeout_s,
            tries=config.instruct.tries,
            max_tokens=100,
            requests_per_minute=config.instruct.requests_per_minute,
        )

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        cache = self._workspace.folder / "replies"
        with (
            Endpoint(self._endpoint, cache) as endpoint,
            ThreadPoolExecutor(self._settings.concurrency) as threads,
        ):
            said = threads.map(lambda sha256: self._one(sha256, endpoint, funnel), images)
            captions = {sha256: text for sha256, text in zip(images, said, strict=True) if text}
            endpoint.require_answers()
            return captions

    def _one(self, sha256: str, endpoint: Endpoint, funnel: Funnel) -> str:
        image = _data_address(self._workspace.image_path(sha256))
        try:
            answer = endpoint.ask(prompts.caption_messages(image), prompts.CAPTION_SCHEMA, funnel)
        except UnansweredError:
            return ""  # counted by the endpoint; the page's words remain
        return collapse(answer["caption"])


class CocaCaptioner:
    """open_clip's CoCa, on the machine itself, from a weights file that is here."""

    def __init__(self, workspace: Workspace, config: MineConfig) -> None:
        check_captioner(config)
        self._workspace = workspace
        self._name, self._weights = _coca(config)
        self._batch = config.batch_size

    def caption(self, images: Sequence[str], funnel: Funnel) -> dict[str, str]:
        import torch
        from open_clip import decode as as_text

        model, preprocess = _load_coca(self._name, self._weights)
        captions: dict[str, str] = {}
        for batch in in_batches(images, self._batch):
            pixels = [preprocess(_image(self._workspace.image_path(each))) for each in batch]
            with torch.inference_mode():
                written = model.generate(torch.stack(pixels))
            for sha256, tokens in zip(batch, written, strict=True):
                text = as_text(tokens).split("<end_of_text>")[0].replace("<start_of_text>", "")
                captions[sha256] = collapse(text)
        return captions


def check_captioner(config: MineConfig) -> None:
    """Refuse a captioner that cannot work, before anything is made for it.

    Raises:
        UsageError: the setting is incomplete.
        ModelError: there is no weights file.
        DependencyError: CoCa is to write, and the package that it writes with is missing.
    """
    if not config.captioner.startswith(COCA):
        if config.captioner and not config.captioner_model:
            raise UsageError("which model captions?", next_step="add --captioner-model")
        return
    name, weights = _coca(config)
    if not name or ":" in name or not weights.name:
        raise UsageError(
            f"the captioner {config.captioner} is not open_clip:MODEL/WEIGHTS_FILE",
            next_step="for example --captioner open_clip:coca_ViT-L-14/weights/coca.safetensors",
        )
    if not weights.is_file():
        raise ModelError(
            f"there is no weights file {weights}",
            why="a captioner is never downloaded; what stands after the model's name is a path",
            next_step="download the weights yourself and name the file: "
            f"--captioner open_clip:{name}/PATH",
        )
    if find_spec("transformers") is None:
        raise DependencyError(
            "CoCa needs the package transformers to write captions",
            why="it is not installed",
            next_step="pip install transformers",
        )


def _coca(config: MineConfig) -> tuple[str, Path]:
    """(open_clip's name of the model, weights file)."""
    name, _, weights = config.captioner.removeprefix(COCA).partition("/")
    return name, Path(weights)


@cache
def _load_coca(name: str, weights: Path) -> tuple[Any, Any]:
    # Imported first: it switches the model hub off.
    from lensctl.models.backbone import backbone_config

    if "multimodal_cfg" not in backbone_config(name):
        raise ModelError(
            f"{name} writes no captions",
            why="of open_clip's models, those called coca_ do",
            next_step="use coca_ViT-L-14 or coca_ViT-B-32, with weights of that model",
        )
    import open_clip

    try:
        # An absolute path is never taken for the name of weights to download.
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=str(weights.resolve())
        )
    except _BAD_WEIGHTS as error:
        raise CheckpointError(
            f"{weights} holds no weights of {name}",
            why="it is damaged, no weights file, or another model's",
            next_step="check the file, and that it belongs to this model",
        ) from error
    return model.eval(), preprocess


def _image(path: Path) -> Any:
    return decode(path, at_least=_SIDE).image


def _data_address(path: Path) -> str:
    image = _image(path)
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def captioner_settings(config: MineConfig) -> tuple[str, ...]:
    """What the captions depend on; of the captioners, only an endpoint is told our words."""
    named = (config.captioner, config.captioner_model)
    if not config.captioner or config.captioner.startswith(COCA):
        return named
    return (*named, prompts.CAPTION_VERSION)


def open_captioner(workspace: Workspace, config: MineConfig) -> Captioner:
    """The captioner that the settings name."""
    if not config.captioner:
        return NoCaptioner()
    if config.captioner.startswith(COCA):
        return CocaCaptioner(workspace, config)
    return EndpointCaptioner(workspace, config)
