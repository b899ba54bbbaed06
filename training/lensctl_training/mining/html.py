"""A page's images with the words around them, read by a real HTML5 parser (lexbor).

One walk over the tree collects headings and text in document order; captions are then looked up
around each image. A page from the web is hostile until shown otherwise: its size and depth are
bounded before the parser sees it, and every text that is kept is cut.
"""

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from lensctl_training.mining.captions import Captions, ancestors, heading_text
from lensctl_training.mining.config import PageLimits
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.language import guess_language
from lensctl_training.mining.records import Mention, Page
from lensctl_training.mining.text import collapse, cut, word_set
from lensctl_training.mining.urls import absolute, site_of

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)

# Elements that have no end tag, or whose end is implied by the next one: they do not nest.
_FLAT = word_set(
    "area base br col embed hr img input link meta source track wbr param p li dt dd tr td "
    "th tbody thead tfoot option optgroup colgroup caption html head body"
)
_SILENT = frozenset(["script", "style", "template", "noscript", "svg", "math", "textarea"])
_REGIONS = frozenset(["nav", "header", "footer", "aside"])
_HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-hi-res-src")
_LAZY_SETS = ("data-srcset", "data-lazy-srcset")
_CONTEXT = 240


# The encodings of the WHATWG Encoding standard, by Python's names. Python has others, some of which
# take time quadratic in the page (punycode) or turn its text into another (unicode_escape).
_ENCODINGS = word_set(
    "ascii utf-8 utf-16 utf-16-le utf-16-be cp866 koi8-r koi8-u mac-roman mac-cyrillic cp874 "
    "iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 "
    "iso8859-10 iso8859-11 iso8859-13 iso8859-14 iso8859-15 iso8859-16 tis-620 "
    "cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 "
    "gb2312 gbk gb18030 big5 big5hkscs euc_jp iso2022_jp shift_jis cp932 euc_kr cp949"
)


def decode_html(data: bytes, declared: str = "") -> str:
    """Bytes -> text: byte-order mark, then the HTTP charset, then `<meta>`, then UTF-8, then
    Windows-1252. Never fails; what cannot be decoded is replaced. Only the web's encodings
    count."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"),
                       (b"\xfe\xff", "utf-16-be")):  # fmt: skip
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    named = _CHARSET.search(data[:2048])
    for charset in (declared, named.group(1).decode("ascii") if named else "", "utf-8"):
        try:
            if codecs.lookup(charset).name in _ENCODINGS:
                return data.decode(charset)
        except (LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def nesting_depth(html: str) -> int:
    """An upper estimate of how many elements are open at one place, without parsing."""
    depth = deepest = 0
    for found in _TAG.finditer(html):
        if found.group(2).lower() in _FLAT:
            continue
        depth = max(0, depth - 1) if found.group(1) else depth + 1
        deepest = max(deepest, depth)
    return deepest


def read_page(html: str, url: str, limits: PageLimits, funnel: Funnel) -> Page | None:
    """Parse one page.

    Args:
        html: the decoded page, already within `limits.max_html_bytes`.
        url: where it was found; relative addresses are resolved against it or its `<base>`.
        limits: bounds on depth and number of images.
        funnel: told of images found and turned away, and why a page gives nothing.

    Returns:
        The page, or None if it is nested too deep or shows no image.
    """
    if nesting_depth(html) > limits.max_depth:
        funnel.reject("pages", "elements nested too deep")
        return None
    tree = LexborHTMLParser(html)
    outline = _walk(tree.body)
    base = _base(tree, url)
    captions = Captions()
    mentions = []
    for position, place in enumerate(outline.images):
        funnel.enter("images")
        if position >= limits.max_images:
            funnel.reject("images", "page shows too many images")
            continue
        urls, reason = _addresses(place.node, base)
        if not urls:
            funnel.reject("images", reason)
            continue
        funnel.leave("images")
        mentions.append(_mention(place, position, urls, outline, captions))
    if not mentions:
        funnel.reject("pages", "no images")
        return None
    heading = tree.css_first("title")
    title = cut(collapse(heading.text()), 200) if heading is not None else ""
    return Page(url, site_of(url), title, _language(tree, outline), tuple(mentions))


@dataclass
class _Place:
    """An image in the walk: its node and what was open around it."""

    node: LexborNode
    offset: int
    headings: tuple[str, ...]
    region: str


@dataclass
class _Outline:
    """All visible text of a page as one string in pieces, and where its images stand."""

    pieces: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    length: int = 0
    images: list[_Place] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.starts.append(self.length)
        self.length += len(text)

    def around(self, offset: int) -> tuple[str, str]:
        """Up to `_CONTEXT` characters before and after an offset, whole pieces only."""
        middle = bisect_right(self.starts, offset - 1) if offset else 0
        before, size = [], 0
        for piece in reversed(self.pieces[max(0, middle - 40) : middle]):
            before.append(piece)
            size += len(piece)
            if size > _CONTEXT:
                break
        after, size = [], 0
        for piece in self.pieces[middle : middle + 40]:
            after.append(piece)
            size += len(piece)
            if size > _CONTEXT:
                break
        tail = collapse(" ".join(reversed(before)))[-_CONTEXT:]
        return tail, collapse(" ".join(after))[:_CONTEXT]


def _walk(root: LexborNode | None) -> _Outline:
    """Visit every node once, in document order."""
    outline = _Outline()
    headings: dict[int, str] = {}
    for node in root.traverse(include_text=True) if root is not None else ():
        tag = node.tag
        if tag == "-text":
            if node.parent is None or node.parent.tag not in _SILENT:
                outline.add(node.text(deep=False))
        elif tag in _HEADINGS:
            level = int(tag[1])
            headings = {k: v for k, v in headings.items() if k < level}
            headings[level] = heading_text(node)
        elif tag == "img":
            outline.images.append(
                _Place(node, outline.length, tuple(headings.values()), _region(node))
            )
    return outline


def _region(node: LexborNode) -> str:
    for parent in ancestors(node, 30):
        if parent.tag in _REGIONS:
            return str(parent.tag)
    return ""


def _base(tree: LexborHTMLParser, url: str) -> str:
    """The page's `<base href>` where it has a usable one, else its own address."""
    node = tree.css_first("base[href]")
    if node is None:
        return url
    base, _ = absolute(url, node.attributes.get("href") or "")
    return base or url


def _addresses(node: LexborNode, base: str) -> tuple[tuple[str, ...], str]:
    """The image's candidate addresses, best first, and why there is none."""
    found: list[str] = []
    reason = "no address"
    for reference in _references(node):
        address, refused = absolute(base, reference)
        if address and address not in found:
            found.append(address)
        reason = refused or reason
    return tuple(found[:4]), reason


def _references(node: LexborNode) -> Iterator[str]:
    """What the attributes name: lazy-loading first (src is a placeholder then), the largest of
    srcset, src, and the sources of an enclosing `<picture>`."""
    attributes = node.attributes
    for name in _LAZY:
        yield attributes.get(name) or ""
    for name in (*_LAZY_SETS, "srcset"):
        yield largest_of(collapse(attributes.get(name) or ""))
    yield attributes.get("src") or ""
    if node.parent is not None and node.parent.tag == "picture":
        for source in node.parent.css("source"):
            yield largest_of(collapse(source.attributes.get("srcset") or ""))


def largest_of(srcset: str) -> str:
    """The candidate of a srcset with the largest width or density; "" where there is none."""
    best, largest = "", -1.0
    for address, descriptor in _candidates(srcset[:8192]):
        try:
            size = float(descriptor.rstrip("wx") or 1.0)
        except ValueError:
            continue
        if size > largest:
            best, largest = address, size
    return best


def _candidates(srcset: str) -> Iterator[tuple[str, str]]:
    """(address, descriptor) pairs, cut as the HTML standard does: an address runs to a blank, so
    that it may hold commas (`w_300,h_200/cat.jpg`), a descriptor runs to a comma."""
    rest = srcset.lstrip(" \t\n\r\f,")
    while rest:
        address, _, rest = rest.partition(" ")
        descriptor = ""
        if not address.endswith(","):
            descriptor, _, rest = rest.partition(",")
        yield address.rstrip(","), descriptor.strip()
        rest = rest.lstrip(" \t\n\r\f,")


def _mention(
    place: _Place, position: int, urls: tuple[str, ...], outline: _Outline, captions: Captions
) -> Mention:
    attributes = place.node.attributes
    before, after = outline.around(place.offset)
    around = captions.around(place.node)
    return Mention(
        urls=urls,
        position=position,
        alt=cut(collapse(attributes.get("alt") or ""), 300),
        title=cut(collapse(attributes.get("title") or ""), 300),
        caption=around.caption,
        figure=around.figure,
        headings=place.headings,
        term=around.term,
        before=before,
        after=after,
        css=around.css,
        region=place.region,
        declared=(_pixels(attributes.get("width")), _pixels(attributes.get("height"))),
    )


def _pixels(value: str | None) -> int:
    found = re.fullmatch(r"\s*(\d{1,5})(?:px)?\s*", value or "")
    return int(found.group(1)) if found else 0


def _language(tree: LexborHTMLParser, outline: _Outline) -> str:
    """The declared language ("en"), or a guess from the text; "" where neither says."""
    declared = tree.root.attributes.get("lang") if tree.root is not None else None
    if declared and (found := re.match(r"[A-Za-z]{2,3}", declared)):
        return found.group().lower()
    return guess_language(" ".join(outline.pieces[:400])[:6000])
