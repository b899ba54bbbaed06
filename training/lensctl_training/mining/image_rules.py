"""Which images of a page can be half of a triplet: rules on words, sizes and pixels.

Each rule returns a reason, or "" when it has no objection. The reasons are what the report counts.
"""

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lensctl_training.mining.config import GroupLimits
from lensctl_training.mining.records import Mention
from lensctl_training.mining.urls import file_name

_ADVERTS = re.compile(
    r"doubleclick|googlesyndication|adservice|adserver|/ads?/|[-_./]ads?[-_.]|banner|sponsor"
    r"|taboola|outbrain|affiliate",
    re.IGNORECASE,
)
_TRACKERS = re.compile(
    r"pixel\.(gif|png)|/pixel[/?]|beacon|/track(er|ing)?[/.?]|stat(s|counter)[./]|1x1|spacer|blank\.gif",
    re.IGNORECASE,
)
_LOGOS = re.compile(r"(?<![a-z])logos?(?![a-z])|favicon|wordmark", re.IGNORECASE)
_ICONS = re.compile(
    r"(?<![a-z])(icons?|sprites?|avatars?|badges?|buttons?|bullets?|arrows?|emoji|smil(?:ey|ie)s?)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_ICON_SIDE = 128
_SVG = re.compile(rb"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE[^>]*>\s*)?<svg", re.S)


def reason_by_words(mention: Mention, url: str) -> str:
    """What address, class names and place on the page say."""
    if mention.declared and 0 < max(mention.declared) <= 2:
        return "tracking pixel"
    if _TRACKERS.search(url):
        return "tracking pixel"
    if _ADVERTS.search(url) or re.search(r"\b(ads?|advert\w*|sponsor\w*)\b", mention.css.lower()):
        return "advertisement"
    name = file_name(url)
    if _LOGOS.search(name) or _LOGOS.search(mention.css):
        return "logo"
    if mention.region:
        return f"in the page's {mention.region}"
    return ""


def reason_by_size(width: int, height: int, mention: Mention, url: str, limits: GroupLimits) -> str:
    """What the image's size in pixels says, icons by name included."""
    if max(width, height) <= 2:
        return "tracking pixel"
    if max(width, height) <= _ICON_SIDE and _ICONS.search(f"{file_name(url)} {mention.css}"):
        return "icon"
    if min(width, height) < limits.min_side or width * height < limits.min_area:
        return "too small"
    if max(width, height) > limits.max_aspect * min(width, height):
        return "extreme aspect ratio"
    return ""


def is_svg(data: bytes) -> bool:
    """SVG is never parsed: it can name files and addresses, and it is a drawing."""
    return bool(_SVG.match(data[:4096])) or b"<svg" in data[:512]


@dataclass(frozen=True)
class PixelFacts:
    """See `Picture` for the units. `spread` is the standard deviation of luma, 0 to 255."""

    brightness: float
    colourfulness: float
    sharpness: float
    spread: float


def measure(image: Image.Image) -> PixelFacts:
    """Facts of an RGB image, measured at 128 px."""
    small = image.resize((128, 128), Image.Resampling.BILINEAR, reducing_gap=2.0)
    rgb = np.asarray(small, dtype=np.float32)
    luma = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    # Hasler and Suesstrunk 2003, equation 2.
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    spread = np.hypot(red_green.std(), yellow_blue.std())
    mean = np.hypot(red_green.mean(), yellow_blue.mean())
    laplacian = (
        luma[1:-1, :-2] + luma[1:-1, 2:] + luma[:-2, 1:-1] + luma[2:, 1:-1] - 4 * luma[1:-1, 1:-1]
    )
    return PixelFacts(
        brightness=round(float(luma.mean()) / 255, 4),
        colourfulness=round(float(spread + 0.3 * mean), 2),
        sharpness=round(float(laplacian.std()), 2),
        spread=float(luma.std()),
    )
