"""Download weights and make a model folder of them."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from lensctl.config import expanded
from lensctl.errors import ModelError, UsageError
from lensctl.models.folder import ModelFolder
from lensctl.models.home import models_home, new_model_path
from lensctl.models.named import HUB, NAMED, NamedModel
from lensctl.models.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from lensctl.net import Download, Progress, Retrying, download

_MOST_CHARACTERS = 50
"""Of a file's name: in UTF-8, and with the endings of a download, no file system refuses these."""


def pull(
    what: str,
    *,
    name: str = "",
    backbone: str = "",
    sha256: str = "",
    keep_download: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda _done, _total: None,
    retrying: Retrying = lambda _why, _seconds: None,
) -> ModelFolder:
    """Make a model of a known name, an http(s) address or a local file.

    Args:
        what: one of `NAMED`, `open_clip:MODEL/TAG`, a URL, or a path.
        name: of the model to make; follows from `what` where empty.
        backbone: open_clip name, for CLIP weights from a URL or a path.
        sha256: of the file, where you know it.
        keep_download: do not delete the downloaded file after its conversion.
        overwrite: replace a model of that name.
        progress: told of every piece that arrives.
        retrying: told of every attempt that failed and is made again.

    Raises DownloadError, CheckpointError, ModelError, UsageError.
    """
    from lensctl.models.convert.convert import Conversion, convert, default_name

    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(
            f"{sha256!r} is no sha256",
            why="a sha256 is 64 hexadecimal digits",
            next_step="give the one that the file's publisher names, or leave --sha256 out",
        )
    known = _known(what)
    wanted = Conversion(
        expanded(what), name=name, backbone=backbone, overwrite=overwrite, sha256=sha256.lower()
    )
    if known is None and "://" not in what:
        return convert(wanted)
    url = _address(known.url if known else what)
    file_name = _file_name(url)
    model = name or (_model_name(what) if known else default_name(Path(file_name)))
    if os.path.lexists(new_model_path(model)) and not overwrite:
        raise ModelError(
            f"the model {model!r} is here already",
            next_step=f"replace it with --overwrite, or: lensctl models remove {model}",
        )
    target = _place_of(url, model, file_name)
    if not target.exists():
        download(Download(url, target, sha256=wanted.sha256), progress, retrying)
    wanted = replace(wanted, file=target, name=model, source=url, facts=known)
    folder = convert(wanted)
    if not keep_download:
        _delete(target)
    return folder


def _place_of(url: str, model: str, file_name: str) -> Path:
    """Where a download lies; another address may give another file the same name."""
    place = hashlib.sha256(url.encode(errors="replace")).hexdigest()[:12]
    return models_home() / ".downloads" / model / place / file_name[-_MOST_CHARACTERS:]


def _delete(target: Path) -> None:
    """A download with its lock and, where nothing else lies there, the folders made for it."""
    target.unlink()
    target.with_name(f"{target.name}.lock").unlink(missing_ok=True)
    with suppress(OSError):
        for folder in list(target.parents)[:3]:
            folder.rmdir()


def _known(what: str) -> NamedModel | None:
    if what.startswith("open_clip:"):
        return _open_clip_model(what.removeprefix("open_clip:"))
    if what not in NAMED and "/" not in what and "." not in what and not Path(what).exists():
        raise UsageError(
            f"there is no model named {what!r} to pull",
            why=f"known names: {', '.join(sorted(NAMED))}",
            next_step="lensctl models list, or give a URL, a path, or open_clip:MODEL/TAG",
        )
    return NAMED.get(what)


def _open_clip_model(what: str) -> NamedModel:
    """Any pretrained model of open_clip's own table that lies on the hub as safetensors."""
    from open_clip.pretrained import get_pretrained_cfg

    backbone, _, tag = what.partition("/")
    facts = get_pretrained_cfg(backbone, tag) or {}
    repository = str(facts.get("hf_hub", "")).strip("/")
    if not repository:
        raise UsageError(
            f"open_clip knows no weights {what!r} on the hub",
            next_step="choose a pair that open_clip.list_pretrained() prints, as MODEL/TAG",
        )
    quick = facts.get("quick_gelu") and "quickgelu" not in backbone
    backbone = f"{backbone}-quickgelu" if quick else backbone
    return NamedModel(
        url=f"{HUB}/{repository}/resolve/main/open_clip_model.safetensors",
        description=f"open_clip {what}, sum of photo and words",
        licence=f"see {HUB}/{repository}",
        backbone=backbone,
        preprocessing=_open_clip_pixels(backbone, facts),
    )


def _open_clip_pixels(backbone: str, facts: Mapping[str, Any]) -> Preprocessing:
    """What open_clip's table says of these weights' pixels."""
    from lensctl.models.backbone import backbone_config

    size = backbone_config(backbone)["vision_cfg"].get("image_size", 224)
    return Preprocessing(
        size=size,
        mode="squash" if facts.get("resize_mode") == "squash" else "crop",
        interpolation="bilinear" if facts.get("interpolation") == "bilinear" else "bicubic",
        mean=facts.get("mean") or CLIP_MEAN,
        std=facts.get("std") or CLIP_STD,
    )


def _model_name(what: str) -> str:
    return what.removeprefix("open_clip:").replace("/", "-").lower()


def _file_name(url: str) -> str:
    """The last part of an address as the name of a file: it leads to no other folder."""
    # Escaped slashes are slashes, so they are read before the last part is taken.
    name = PurePosixPath(unquote(urlsplit(url).path).replace("\0", "")).name
    return "weights" if name in ("", "..") else name


def _address(url: str) -> str:
    """With the hub's mirror that HF_ENDPOINT names, if any. Raises UsageError."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if mirror and url.startswith(HUB):
        url = url.replace(HUB, mirror, 1)
    if why := _fault(url):
        raise UsageError(
            f"cannot download {url}",
            why=why,
            next_step="give an https address, or the path of a file that you downloaded",
        )
    return url


def _fault(url: str) -> str:
    """What is wrong with an address; empty where nothing is."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError as error:
        return f"it is no address: {error}"
    if parts.scheme not in ("http", "https"):
        return "only http and https addresses are supported"
    return "" if parts.hostname else "it names no server"
