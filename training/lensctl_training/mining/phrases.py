"""Words of a page made fit to stand in a sentence."""

import re
from collections.abc import Iterator
from functools import lru_cache

from lensctl_training.mining.records import Picture
from lensctl_training.mining.text import names_a_file, word_set, words
from lensctl_training.mining.urls import file_name

_NUMBERING = re.compile(
    r"^(?:(?:figure|fig\.?|table|example|plate|image|step|photo)\s*)?(?:[\dA-Z]{1,3}[.\-:])*\d{1,3}"
    r"[a-z]?[.):]\s+|^(?:figure|fig\.?)\s+[\d.]+[:.]?\s+",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\s*[(\[][^)\]]{18,}[)\]]|\s*\[\W*\]|\s*\(?(?:image )?courtesy.*$", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<=[a-z\d)])[.;:!?](?:\s|$)|\s[–—-]\s")
_QUOTES = re.compile(r"[“”„«»\"`]|(?<!\w)[‘']|[’'](?!\w)")
_LEAD = re.compile(
    r"^(?:(?:this|the following|following) (?:is|image|picture|figure)\b.*?\b(?:shows?|is)\s+"
    r"|(?:an? )?(?:example|illustration|screenshot|image|picture|view) (?:for|of|showing)\s+"
    r"|the (?:dialog|screenshot|image|picture|figure) shows\s+)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_CODE = re.compile(r"[{}<>;\\|]|::|\w\(\)|->|==|&&|https?:|www\.")
_GENERIC = word_set(
    "image images picture photo figure example examples screenshot logo icon thumbnail "
    "untitled illustration here it note tip warning caution important result results output "
    "input"
)
_GENERIC_HEADINGS = word_set(
    "overview options introduction description result results theory goal goals example "
    "examples usage explanation code references contents summary abstract background details "
    "notes parameters settings conclusion discussion tutorial exercises properties other "
    "theory a the and for in about"
)
_GENERIC_STARTS = re.compile(
    r"^(?:activat|other |theory|basic|background|using|how |starting|examples? |what |see also"
    r"|additional|source code|getting |more |pseudo|sequential |implement|key modif|tool options"
    r"|general|next steps|code at|detailed description|table of contents|◆)",
    re.IGNORECASE,
)
MOST_WORDS = 11


@lru_cache(maxsize=8192)  # a page compares each of its texts with all others
def clean(text: str) -> str:
    """A caption or heading as a phrase: no number, no quotes, no asides, first sentence only."""
    text = _NUMBERING.sub("", text.replace("¶", "").strip())
    text = _QUOTES.sub("", _ASIDE.sub("", text)).strip()
    end = _SENTENCE_END.search(text)
    if end and len(text[: end.start()].split()) >= 2:
        text = text[: end.start()]
    text = _LEAD.sub("", text).strip(" .,:;-–—*•")
    return _ARTICLE.sub("", _lowered(text))


def _lowered(text: str) -> str:
    """Without the capital that only the start of a sentence gave it."""
    head, _, rest = text.partition(" ")
    capitals_later = any(word[:1].isupper() for word in rest.split())
    if head[1:].islower() and not (capitals_later and head.lower() not in _OPENERS):
        return text[:1].lower() + text[1:]
    return text


_OPENERS = word_set(
    "the a an original filter example image result after before using how with without left "
    "right only no all some when our your this these first second third final"
)


@lru_cache(maxsize=8192)
def is_fit(phrase: str) -> bool:
    """Whether a phrase says something, in words, without code, addresses or file names."""
    found = words(phrase)
    if not 1 <= len(found) <= MOST_WORDS or len(phrase) > 90:
        return False
    if (
        all(word in _GENERIC or len(word) < 2 for word in found)
        or phrase.count(",") > 1
        or "..." in phrase
    ):
        return False
    letters = sum(char.isalpha() or char == " " for char in phrase)
    if letters < 0.6 * len(phrase) or not any(len(w) > 2 and w.isalpha() for w in found):
        return False
    return not (_CODE.search(phrase) or names_a_file(phrase))


def own_phrases(picture: Picture) -> Iterator[str]:
    """What is said of this picture, most telling first; only what is fit to be used."""
    mention = picture.mention
    for text in (mention.caption, mention.figure, mention.alt, mention.title, mention.term):
        phrase = clean(text)
        if is_fit(phrase) and not _is_file_name(phrase, picture):
            yield phrase
    if picture.generated_caption:
        yield clean(picture.generated_caption)


def own_phrase(picture: Picture) -> str:
    """The most telling phrase about this picture; "" where there is none."""
    return next(own_phrases(picture), "")


def _is_file_name(phrase: str, picture: Picture) -> bool:
    """Generators turn file names into alternative texts: `plot_rag.png` -> "plot rag"."""
    name = set(re.split(r"[\W_\d]+", file_name(picture.url).lower()))
    own = {word for word in words(phrase) if not word.isdigit()}
    return len(own) > 1 and own <= name


def section(picture: Picture) -> str:
    """The innermost heading, if it is fit to be used."""
    headings = picture.mention.headings
    phrase = clean(headings[-1]) if headings else ""
    return phrase if is_fit(phrase) and not is_generic_heading(phrase) else ""


def topic(picture: Picture, page_title: str) -> str:
    """What the part of the page is about: the innermost telling heading, or the page's title."""
    for heading in reversed(picture.mention.headings):
        phrase = clean(heading)
        if is_fit(phrase) and not is_generic_heading(phrase):
            return phrase
    return page_topic(page_title)


def page_topic(title: str) -> str:
    """A page's title without the site's name."""
    pieces = [clean(piece) for piece in re.split(r"\s[|—–-]\s|^\w+:\s", title) if piece.strip()]
    fit = [piece for piece in pieces if is_fit(piece)]
    return fit[0] if fit else ""


def is_generic_heading(phrase: str) -> bool:
    """Whether a heading only names a part of a text ("Overview"), not what it is about."""
    found = words(phrase)
    return all(word in _GENERIC_HEADINGS for word in found) or bool(_GENERIC_STARTS.match(phrase))


def describe(picture: Picture) -> str:
    """All that is said of a picture in one line, for comparing texts."""
    mention = picture.mention
    pieces = [*own_phrases(picture), *(clean(heading) for heading in mention.headings[-1:])]
    return "; ".join(dict.fromkeys(piece for piece in pieces if piece))[:240]
