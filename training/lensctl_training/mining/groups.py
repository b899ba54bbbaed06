"""Stage *groups*: of every page, the images that can be halves of triplets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lensctl.errors import PhotoError
from lensctl.photos.decode import decode
from lensctl.photos.near_duplicates import group_near, perceptual_hash
from lensctl_training.mining.config import GroupLimits, MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.image_rules import (
    is_svg,
    measure,
    reason_by_size,
    reason_by_words,
)
from lensctl_training.mining.image_table import ImageTable
from lensctl_training.mining.pages import read_share
from lensctl_training.mining.records import Group, Mention, Page, Picture, write_rows
from lensctl_training.mining.workspace import Part, Workspace

ROWS = "rows.jsonl"
_HASH_SIDE = 256


def run_groups(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Keep the usable images of every page of some sites; pages with fewer than two are dropped."""
    funnel = Funnel()
    (share,) = part.inputs
    with ImageTable(workspace) as table:
        pages = list(_load(workspace, int(share), funnel))
        sifter = _Sifter(workspace, config.groups, table, _Repeats(pages, table, config.groups))
        groups = (group for page in pages if (group := sifter.sift(page, funnel)))
        write_rows(out / ROWS, groups)
    return funnel


def _load(workspace: Workspace, share: int, funnel: Funnel) -> Iterator[Page]:
    """The pages of one share of the sites, by address, so that it does not matter how the input
    was cut into parts."""
    rows = [
        row
        for source in workspace.parts("pages")
        for row in read_share(workspace.part_folder("pages", source), share)
    ]
    rows.sort(key=lambda row: str(row["url"]))
    rows.reverse()
    seen = ""
    while rows:
        page = Page.from_json(rows.pop())  # popped: a share is in memory once, not twice
        funnel.enter("pages")
        funnel.enter("images", len(page.mentions))
        if page.url == seen:
            funnel.reject("pages", "page seen twice")
            funnel.reject("images", "page seen twice", len(page.mentions))
            continue
        seen = page.url
        yield page


class _Repeats:
    """On how many pages of its site an image stands: what is everywhere is navigation."""

    def __init__(self, pages: Sequence[Page], table: ImageTable, limits: GroupLimits) -> None:
        self._limits = limits
        self._site_pages = Counter(page.site for page in pages)
        self._uses: Counter[tuple[str, str]] = Counter()
        for page in pages:
            shown = {table.find(url)[0] for mention in page.mentions for url in mention.urls}
            self._uses.update((page.site, sha256) for sha256 in shown if sha256)

    def everywhere(self, site: str, sha256: str) -> bool:
        share = self._limits.max_page_share * self._site_pages[site]
        return self._uses[site, sha256] > max(share, self._limits.max_pages)


@dataclass
class _Sifter:
    workspace: Workspace
    limits: GroupLimits
    table: ImageTable
    repeats: _Repeats
    known: dict[str, "_Look"] = field(default_factory=dict)

    def sift(self, page: Page, funnel: Funnel) -> Group | None:
        """The page's group, or None; every image that is left out is counted with its reason."""
        kept: list[Picture] = []
        for mention in page.mentions:
            picture, reason = self._picture(page, mention, {p.sha256 for p in kept})
            if picture is None:
                funnel.reject("images", reason)
            else:
                kept.append(picture)
        if len(kept) > self.limits.max_per_page:
            funnel.reject("images", "over-dense page", len(kept))
            funnel.reject("pages", "over-dense page")
            return None
        distinct = self._distinct(kept)
        funnel.reject("images", "near duplicate on its page", len(kept) - len(distinct))
        if len(distinct) < 2:
            funnel.reject("images", "alone on its page", len(distinct))
            funnel.reject("pages", "fewer than two usable images")
            return None
        funnel.leave("pages")
        funnel.leave("images", len(distinct))
        return Group(page.url, page.site, page.title, page.language, tuple(distinct))

    def _picture(self, page: Page, mention: Mention, taken: set[str]) -> tuple[Picture | None, str]:
        url, sha256, reason = self._file(mention)
        reason = reason_by_words(mention, url or mention.urls[0]) or reason
        if reason:
            return None, reason
        if sha256 in taken:
            return None, "exact duplicate on its page"
        if not (mention.caption or mention.figure) and self.repeats.everywhere(page.site, sha256):
            return None, "repeats across the site"
        look = self._look(sha256)
        reason = look.reason or reason_by_size(look.width, look.height, mention, url, self.limits)
        if reason:
            return None, reason
        if look.spread < self.limits.min_spread:
            return None, "blank"
        return look.as_picture(mention, url, sha256), ""

    def _file(self, mention: Mention) -> tuple[str, str, str]:
        """(address, SHA-256, "") of the first candidate at hand, or ("", "", reason)."""
        reasons = []
        for url in mention.urls:
            sha256, reason = self.table.find(url)
            if sha256:
                return url, sha256, ""
            reasons.append(reason)
        return "", "", reasons[-1]

    def _look(self, sha256: str) -> "_Look":
        if sha256 not in self.known:
            self.known[sha256] = _look_at(self.workspace.image_path(sha256), self.limits)
        return self.known[sha256]

    def _distinct(self, pictures: Sequence[Picture]) -> list[Picture]:
        """One of each group of near duplicates: the largest, then the first.

        Images that hash alike but differ in brightness, colour or sharpness are kept apart:
        "the same, but darker" is a relation worth having.
        """
        hashes = [self.known[picture.sha256].hash for picture in pictures]
        dropped: set[int] = set()
        for near in group_near(hashes, self.limits.hash_distance):
            kept: list[int] = []
            for i in sorted(near, key=lambda i: (-pictures[i].width * pictures[i].height, i)):
                if any(_same_tones(pictures[i], pictures[other]) for other in kept):
                    dropped.add(i)
                else:
                    kept.append(i)
        return [picture for i, picture in enumerate(pictures) if i not in dropped]


def _same_tones(one: Picture, other: Picture) -> bool:
    return (
        abs(one.brightness - other.brightness) < 0.03
        and abs(one.colourfulness - other.colourfulness) < 4.0
        and abs(one.sharpness - other.sharpness) < 0.25 * max(one.sharpness, other.sharpness, 4.0)
    )


@dataclass(frozen=True)
class _Look:
    """What one decode of an image file told, or the reason why it told nothing."""

    reason: str = ""
    width: int = 0
    height: int = 0
    brightness: float = 0.0
    colourfulness: float = 0.0
    sharpness: float = 0.0
    spread: float = 0.0
    hash: int = 0

    def as_picture(self, mention: Mention, url: str, sha256: str) -> Picture:
        return Picture(
            mention=mention,
            url=url,
            sha256=sha256,
            width=self.width,
            height=self.height,
            brightness=self.brightness,
            colourfulness=self.colourfulness,
            sharpness=self.sharpness,
            perceptual_hash=self.hash,
        )


def _look_at(path: Path, limits: GroupLimits) -> _Look:
    with path.open("rb") as file:
        if is_svg(file.read(4096)):
            return _Look(reason="vector image")
    try:
        photo = decode(path, at_least=_HASH_SIDE, max_pixels=limits.max_pixels)
    except PhotoError:
        return _Look(reason="not a readable image")
    if min(photo.width, photo.height) < 8:
        return _Look(width=photo.width, height=photo.height, spread=255.0)
    facts = measure(photo.image)
    return _Look(
        width=photo.width,
        height=photo.height,
        brightness=facts.brightness,
        colourfulness=facts.colourfulness,
        sharpness=facts.sharpness,
        spread=facts.spread,
        hash=perceptual_hash(photo.image),
    )
