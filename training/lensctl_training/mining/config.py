"""The settings of a mining run: defaults here, a TOML file over them, flags over both."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensctl.config import DEVICES
from lensctl.errors import UsageError
from lensctl_training.mining.urls import absolute

COCA = "open_clip:"
"""How a captioner that runs here is named: open_clip:MODEL/WEIGHTS_FILE."""


@dataclass(frozen=True)
class PageLimits:
    """What a page may be. Sizes in bytes."""

    max_html_bytes: int = 4 * 2**20
    max_depth: int = 1500
    """Open elements at one place; HTML parsers take time quadratic in it."""
    max_images: int = 400
    """Mentions read from one page; the rest is counted as rejected."""
    max_image_bytes: int = 20 * 2**20
    max_inflation: int = 200
    """A WARC may unpack to this many times its size, and at least to 256 MiB."""
    pages_per_part: int = 200
    site_parts: int = 8
    """Into how many parts the sites are spread after the first stage. More parts, less memory."""


@dataclass(frozen=True)
class GroupLimits:
    """Which images of a page are kept. Sides in pixels."""

    min_side: int = 64
    min_area: int = 10_000
    max_aspect: float = 3.5
    max_page_share: float = 0.02
    """An image on more pages of its site than this share, and than `max_pages`, is navigation."""
    max_pages: int = 12
    max_per_page: int = 80
    """A page with more usable images is over-dense: its images stand in no close relation."""
    min_spread: float = 8.0
    """Standard deviation of luma (0 to 255) below which an image is blank."""
    max_pixels: int = 100_000_000
    hash_distance: int = 4
    """Images of a page whose perceptual hashes differ in so few bits are near duplicates."""


@dataclass(frozen=True)
class PairLimits:
    """Which pairs are kept. Similarities are cosines of the annotating model."""

    min_image_similarity: float = 0.05
    max_image_similarity: float = 0.985
    max_text_similarity: float = 0.97
    per_page: int = 12
    per_target: int = 2
    """How often one mention may be a target on its page."""
    per_image: int = 6
    """How often one image file may be a target on its site."""
    per_site: int = 20_000
    label_share: float = 0.5
    """At most this share of all pairs has targets of one label (from 200 pairs on)."""


@dataclass(frozen=True)
class InstructSettings:
    """Who writes the instructions. Prices are in money per million tokens, any currency."""

    endpoint: str = ""
    model: str = ""
    concurrency: int = 8
    requests_per_minute: int = 0
    """0: no limit of our own; the server's 429 answers are obeyed either way."""
    timeout_s: float = 60.0
    tries: int = 4
    max_tokens: int = 300
    price_in: float = 0.0
    price_out: float = 0.0
    max_words: int = 30
    languages: tuple[str, ...] = ("en", "")
    """Page languages the writer can work with; "" is unknown."""


@dataclass(frozen=True)
class FetchSettings:
    """How images that the input does not hold are fetched, once `enabled`."""

    enabled: bool = False
    requests_per_host_per_minute: int = 60
    concurrency: int = 8
    timeout_s: float = 20.0
    tries: int = 3
    allow_private: bool = False
    """Let private and loopback addresses be fetched: for tests and intranets."""


@dataclass(frozen=True)
class WriteSettings:
    """The shards."""

    val_share: float = 0.02
    """Expected share of *sites* that go to val."""
    val_sites: tuple[str, ...] = ()
    max_side: int = 512
    jpeg_quality: int = 90
    triplets_per_shard: int = 5_000
    sheet_rows: int = 60


@dataclass(frozen=True)
class MineConfig:
    """Everything a run can be told."""

    model: str = "mini"
    captioner: str = ""
    """An OpenAI-compatible endpoint with vision, or `open_clip:coca_ViT-L-14/WEIGHTS_FILE`."""
    captioner_model: str = ""
    device: str = "auto"
    batch_size: int = 32
    base_url: str = ""
    """The address at which a folder of pages was found; by default http://NAME.invalid/."""
    pages: PageLimits = field(default_factory=PageLimits)
    groups: GroupLimits = field(default_factory=GroupLimits)
    pairs: PairLimits = field(default_factory=PairLimits)
    instruct: InstructSettings = field(default_factory=InstructSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    write: WriteSettings = field(default_factory=WriteSettings)

    def __post_init__(self) -> None:
        self._check_ranges()
        pairs = self.pairs
        if pairs.min_image_similarity > pairs.max_image_similarity:
            raise UsageError(
                "pairs.min_image_similarity is above pairs.max_image_similarity",
                why=f"{pairs.min_image_similarity} to {pairs.max_image_similarity} holds nothing",
                next_step="swap the two, or leave one at its default",
            )
        if self.device not in DEVICES:
            raise UsageError(
                f"there is no device {self.device!r}", next_step=f"use {', '.join(DEVICES)}"
            )
        _check_address("base URL", "--base-url", self.base_url)
        _check_address("endpoint", "--endpoint", self.instruct.endpoint)
        if not self.captioner.startswith(COCA):
            _check_address("captioner", "--captioner", self.captioner)

    def _check_ranges(self) -> None:
        wrong = []
        for name, (least, most) in _RANGES.items():
            table, _, field_name = name.rpartition(".")
            value = getattr(getattr(self, table) if table else self, field_name)
            if not least <= value <= most:  # nor is "not a number" in any range
                up_to = "or more" if most == math.inf else f"to {most:,}"
                wrong.append(f"{name} is {value:,}, not {least:,} {up_to}")
        if wrong:
            names = ", ".join(each.partition(" ")[0] for each in wrong)
            raise UsageError(
                f"mining settings out of range: {names}",
                why="; ".join(wrong),
                next_step="correct them in the settings file, or leave them at their defaults",
            )


_ANY = math.inf
_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, _ANY),
    "pages.max_html_bytes": (1, _ANY),
    "pages.max_depth": (1, _ANY),
    "pages.max_images": (1, _ANY),
    "pages.max_image_bytes": (1, _ANY),
    "pages.max_inflation": (1, _ANY),
    "pages.pages_per_part": (1, _ANY),
    "pages.site_parts": (1, _ANY),
    "groups.min_side": (0, _ANY),
    "groups.min_area": (0, _ANY),
    "groups.max_aspect": (1, _ANY),
    "groups.max_page_share": (0, 1),
    "groups.max_pages": (0, _ANY),
    "groups.max_per_page": (1, _ANY),
    "groups.min_spread": (0, 255),
    "groups.max_pixels": (1, _ANY),
    "groups.hash_distance": (0, 32),
    "pairs.min_image_similarity": (-1, 1),
    "pairs.max_image_similarity": (-1, 1),
    "pairs.max_text_similarity": (-1, 1),
    "pairs.per_page": (1, _ANY),
    "pairs.per_target": (1, _ANY),
    "pairs.per_image": (1, _ANY),
    "pairs.per_site": (1, _ANY),
    "pairs.label_share": (0.001, 1),
    "instruct.concurrency": (1, 1000),
    "instruct.requests_per_minute": (0, _ANY),
    "instruct.timeout_s": (0.001, 86_400),
    "instruct.tries": (1, 100),
    "instruct.max_tokens": (1, _ANY),
    "instruct.price_in": (0, 1_000_000),
    "instruct.price_out": (0, 1_000_000),
    "instruct.max_words": (1, _ANY),
    "fetch.requests_per_host_per_minute": (1, _ANY),
    "fetch.concurrency": (1, 1000),
    "fetch.timeout_s": (0.001, 86_400),
    "fetch.tries": (1, 100),
    "write.val_share": (0, 0.99),
    "write.max_side": (1, 65_500),  # more is no JPEG
    "write.jpeg_quality": (1, 100),
    "write.triplets_per_shard": (1, _ANY),
    "write.sheet_rows": (0, _ANY),
}
"""The least and the most that a number may be; a test says that every number is here."""


def _check_address(what: str, flag: str, address: str) -> None:
    """ "" is none. Raises UsageError for what is no address of a web server."""
    reason = absolute("", address)[1] if address else ""
    if reason:
        raise UsageError(
            f"the {what} {address!r} is no web address",
            why=reason,
            next_step=f"give one with http:// or https:// and a host, as {flag} https://example.org/",
        )


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> MineConfig:
    """Settings from a TOML file and overrides (nested like the file; None values are skipped).

    Raises:
        UsageError: the file cannot be read, or names a setting that does not exist.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"cannot read the settings in {path}", why=str(error)) from error
    return _build(MineConfig, _merge(data, overrides or {}), "")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        if isinstance(value, dict):
            table = result.get(name, {})
            if not isinstance(table, dict):
                raise UsageError(
                    f"mining setting {name} is a table, not {table!r}",
                    next_step=f"put its settings below a line [{name}]",
                )
            result[name] = _merge(table, value)
        elif value is not None:
            result[name] = value
    return result


def _build(kind: type, data: dict[str, Any], place: str) -> Any:
    known = {each.name: each for each in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise UsageError(
                f"there is no mining setting {place}{name}",
                why=f"known here: {', '.join(sorted(known))}",
            )
        default = _default(known[name])
        if dataclasses.is_dataclass(default):
            if not isinstance(value, dict):
                raise UsageError(f"mining setting {place}{name} is a table")
            values[name] = _build(type(default), value, f"{place}{name}.")
        else:
            values[name] = _checked(f"{place}{name}", value, default)
    return kind(**values)


def _default(each: "dataclasses.Field[Any]") -> Any:
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return each.default


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        if not all(isinstance(each, str) for each in value):
            raise UsageError(f"mining setting {name} is {value!r}, not a list of texts")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise UsageError(f"mining setting {name} is larger than any number here") from error
    if type(value) is not type(default):
        raise UsageError(f"mining setting {name} is {value!r}, not a {type(default).__name__}")
    return value
