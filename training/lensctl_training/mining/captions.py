"""Which words on a page belong to an image: captions, figure titles, terms, class names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selectolax.lexbor import LexborNode

from lensctl_training.mining.text import collapse, cut

_CAPTION = re.compile(r"caption|gallerytext|\blegend\b|thumbnail-title", re.IGNORECASE)
_FIGURE = re.compile(
    r"figure|thumb|\bimage\b|mediaobject|gallery|wp-caption|media|photo|picture", re.IGNORECASE
)
_TITLE = re.compile(r"\btitle\b", re.IGNORECASE)
_STOP = frozenset(["body", "html", "main", "article", "table", "section"])
_LEVELS = 6
_MOST_NODES = 60


@dataclass(frozen=True)
class Around:
    """What `Mention` keeps under the same names."""

    caption: str = ""
    figure: str = ""
    term: str = ""
    css: str = ""


class Captions:
    """Looks around the images of one page; remembers what an element around several said."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, str, str]] = {}

    def around(self, node: LexborNode) -> Around:
        """The caption that belongs to this image alone, the title of the figure it shares with
        others, the term it explains, and the class names around it."""
        caption = figure = ""
        css = [node.attributes.get("class") or ""]
        for parent in ancestors(node, _LEVELS):
            if parent.tag in _STOP:
                break
            css.append(parent.attributes.get("class") or "")
            images, found, title = self._look(parent)
            if images == 1:
                caption = caption or found
            else:
                figure = figure or found
            figure = figure or title
            if caption and figure:
                break
        return Around(caption, figure, _term(node), cut(collapse(" ".join(css[:4])), 120))

    def _look(self, element: LexborNode) -> tuple[int, str, str]:
        """(number of images, caption, title) inside an element that may be a figure."""
        known = self._seen.get(element.mem_id)
        if known is None:
            known = self._seen[element.mem_id] = _look_inside(element)
        return known


def _look_inside(element: LexborNode) -> tuple[int, str, str]:
    """A caption counts where there is one: next to several, each belongs to its own image."""
    images, title = 0, ""
    captions: list[str] = []
    name = element.attributes.get("class") or ""
    is_figure = element.tag == "figure" or bool(_FIGURE.search(name))
    for count, node in enumerate(element.traverse()):
        if count > _MOST_NODES:
            return max(images, 2), "", ""  # no figure is that large
        if node.tag == "img":
            images += 1
        elif node.tag == "figcaption" or _has_class(node, _CAPTION):
            captions.append(_caption_text(node))
        elif not title and is_figure and _has_class(node, _TITLE):
            title = _caption_text(node)
    alone = images == 1 or (is_figure and len(captions) == 1)
    return images, captions[0] if captions and alone else "", title


def _has_class(node: LexborNode, pattern: re.Pattern[str]) -> bool:
    name = node.attributes.get("class")
    return bool(name and pattern.search(name))


def _caption_text(node: LexborNode) -> str:
    return cut(collapse(node.text(separator="")), 300)


def _term(node: LexborNode) -> str:
    """The `dt` above the `dd` that holds the image, or the `th` of its table row."""
    for parent in ancestors(node, _LEVELS):
        if parent.tag == "dd":
            return _sibling_text(parent, "dt")
        if parent.tag == "td":
            return _sibling_text(parent, "th")
        if parent.tag in _STOP:
            break
    return ""


def _sibling_text(node: LexborNode, tag: str) -> str:
    before = node.prev
    for _ in range(6):
        if before is None:
            break
        if before.tag == tag:
            return cut(collapse(before.text()), 160)
        before = before.prev
    return ""


def heading_text(node: LexborNode) -> str:
    """A heading without its number and permalink sign."""
    text = cut(collapse(node.text()).rstrip("¶#§ "), 160)
    return re.sub(r"^(?:\d+\.)+\d*\s+|^Chapter \d+\.\s+", "", text)


def ancestors(node: LexborNode, most: int) -> Iterator[LexborNode]:
    """The elements around a node, innermost first."""
    parent = node.parent
    while parent is not None and most > 0:
        yield parent
        parent, most = parent.parent, most - 1
