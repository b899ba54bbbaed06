"""How two pictures of a page are related, as far as the page's words tell.

Each rule compares what is said of the query with what is said of the target and fills slots:
`t`, what the target has and the query has not; `q`, the reverse; `op`, what happens between them;
`this`, a noun for the query. An instruction made from them points at the query ("this", "instead
of") and leaves out what both share, so that neither picture nor words suffice alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from lensctl_training.mining.phrases import (
    clean,
    is_fit,
    own_phrase,
    own_phrases,
    section,
    topic,
)
from lensctl_training.mining.records import Pair, Picture
from lensctl_training.mining.text import word_set, words
from lensctl_training.mining.urls import file_name

_BEFORE = re.compile(
    r"\b(original|before|initial|source|input|untouched|unmodified|unfiltered|starting|origin)\b",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\b(applied|after|results?|resulting|output|transformed|filtered|final|processed|modified|"
    r"detected|corrected|restored|segmented|blurred|sharpened|thresholded|denoised|undistorted|"
    r"rotated|scaled|warped|tonemapped|enhanced|inpainted)\b",
    re.IGNORECASE,
)
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("toolbox", re.compile(r"\b(toolbox|toolbar|icon)\b", re.IGNORECASE)),
    ("context menu", re.compile(r"\b(context|pop-?up|right-click) menus?\b", re.IGNORECASE)),
    ("menu", re.compile(r"\b(sub)?menus?\b|\bdrop-?down\b", re.IGNORECASE)),
    (
        "controls",
        re.compile(r"\b(dialogs?|options?|settings|parameters?|preferences|dialog window)\b", re.I),
    ),
    ("histogram", re.compile(r"\bhistograms?\b", re.IGNORECASE)),
    ("diagram", re.compile(r"\b(diagram|graph|plot|chart|scheme)\b", re.IGNORECASE)),
    ("mask", re.compile(r"\bmasks?\b", re.IGNORECASE)),
    ("before", _BEFORE),
    ("after", _AFTER),
    ("example", re.compile(r"\b(examples?|sample|illustration|demo\w*)\b", re.IGNORECASE)),
)
_KIND_WORDS = word_set(
    "dialog dialogs option options settings setting parameters parameter window menu menus "
    "submenu toolbox toolbar icon filter tool image picture example examples the a an of for "
    "in on and with to by s its"
)
_NAMED = re.compile(
    r"([\w’'.&+-]+(?: [\w’'.&+-]+){0,3}) (filter|tool|command|effect|transformation|operator|layer "
    r"mode|plug-in)\b",
    re.IGNORECASE,
)
_THIS = {
    "menu": "this menu",
    "toolbox": "this tool",
    "histogram": "this histogram",
    "diagram": "this diagram",
    "mask": "this mask",
    "example": "this example",
}


@dataclass(frozen=True)
class Relation:
    """A rule that applied, and what it found."""

    name: str
    slots: dict[str, str] = field(default_factory=dict)


def find_relation(pair: Pair) -> Relation | None:
    """The first rule that applies; None where the words tell of no relation."""
    for rule in _RULES:
        relation = rule(pair)
        if relation is not None:
            return relation
    return None


def kind_of(picture: Picture) -> str:
    """What kind of picture the words say it is: "controls", "before", ...; "" if they do not.

    A caption decides alone: under a figure "Wind filter options" stand examples, too. So does the
    file's name where it says that it is one.
    """
    kind = _kind_by_words(picture)
    if kind in _INTERFACE and _EXAMPLE_FILE.search(file_name(picture.url)):
        return "example"
    return kind


_INTERFACE = frozenset(["controls", "menu", "context menu", "toolbox"])
_EXAMPLE_FILE = re.compile(r"[-_](?:ex|examples?|demo)\d*[a-z]?(?=[-_.])", re.IGNORECASE)


def _kind_by_words(picture: Picture) -> str:
    mention = picture.mention
    if mention.caption and is_fit(clean(mention.caption)):
        return _kind_in_caption(mention.caption)
    for text in (mention.figure, mention.alt, mention.title):
        if kind := _kind_in(clean(text)):
            return kind
    return ""


def _kind_in(phrase: str) -> str:
    """A kind of thing counts where it is the phrase's head: "curve options", "options for the
    curve", but not "the option is checked"."""
    if _BEFORE.search(phrase) and "," in phrase:
        return ""  # several pictures in one, of which the first is the original
    for kind, pattern in _KINDS:
        for found in pattern.finditer(phrase):
            rest = phrase[found.end() :].split()
            if kind in ("before", "after", "example") or len(rest) < 2 or rest[0] in _OF:
                return kind
    return ""


_OF = ("for", "of", "to", "with", "in", "and", "tab")


def _kind_in_caption(caption: str) -> str:
    phrase = clean(caption)
    if _BEFORE.search(" ".join(phrase.split()[:3])) and "," not in phrase:
        return "before"
    if _AFTER.search(phrase):
        return "after"
    return _kind_in(phrase) if len(words(phrase)) <= 6 else ""


def _same_figure(pair: Pair) -> bool:
    figure = pair.query.mention.figure
    return bool(figure) and figure == pair.target.mention.figure


def _same_topic(pair: Pair) -> bool:
    """Whether both stand under the same outermost headings (or one figure)."""
    one, other = pair.query.mention.headings, pair.target.mention.headings
    return _same_figure(pair) or one[:1] == other[:1]


def _under_one_heading(pair: Pair) -> bool:
    """Whether the page is about one thing, or both stand in the same section of it."""
    one, other = pair.query.mention.headings, pair.target.mention.headings
    return one == other or len(one) < 2 or len(other) < 2 or one[:-1] == other[:-1]


def _operation(pair: Pair, picture: Picture) -> str:
    """What is done to the picture: "the Cartoon filter", or the section's topic; "" if unknown."""
    mention = picture.mention
    for text in (mention.caption, mention.figure, mention.alt):
        named = _NAMED.search(clean(text))
        if named and words(named.group(1))[-1] not in _KIND_WORDS:
            name = re.sub(
                r"^(?:(?:filter|example|of|the|for|a|an)\s+)+", "", named.group(), flags=re.I
            )
            return f"the {name}"
    return topic(picture, pair.page_title)


def _before_to_after(pair: Pair) -> Relation | None:
    kinds = kind_of(pair.query), kind_of(pair.target)
    if kinds[0] != "before" or not _same_topic(pair):
        return None
    if kinds[1] not in ("after", "") or not _looks_related(pair):
        return None
    if kinds[1] == "" and pair.scores.get("image", 1.0) < 0.6:
        return None
    own = clean(pair.target.mention.caption)
    operation = _operation(pair, pair.target)
    detail = own if is_fit(own) and not _mostly(own, operation) else ""
    if detail:
        return Relation("before to after, in words", {"t": detail})
    if _rivals(pair) or not operation:
        return None
    return Relation("before to after", {"op": operation})


def _after_to_before(pair: Pair) -> Relation | None:
    if kind_of(pair.target) != "before" or not _same_topic(pair) or not _looks_related(pair):
        return None
    kind = kind_of(pair.query)
    if kind not in ("after", "") or _rivals(pair):
        return None
    if kind == "" and pair.scores.get("image", 1.0) < 0.6:
        return None
    operation = _operation(pair, pair.query)
    if operation.startswith("the "):
        return Relation("after to before", {"op": operation})
    return Relation("after to before, unnamed")


def _rivals(pair: Pair) -> int:
    """How many other pictures of the page, or of the figure, are of the target's kind."""
    return int(pair.scores.get("rivals", 0))


def _looks_related(pair: Pair) -> bool:
    return _same_figure(pair) or pair.scores.get("image", 1.0) > 0.6


def _mostly(phrase: str, operation: str) -> bool:
    own = set(words(phrase)) - _KIND_WORDS - {"applied", "result", "after", "output"}
    return own <= set(words(operation))


def _contrast(pair: Pair) -> Relation | None:
    """Two captions that differ in one place: "quality 75" where the other has "default quality"."""
    kinds = {kind_of(pair.query), kind_of(pair.target)}
    if len(kinds) > 1 and kinds & set(_LEADS_TO):
        return None
    for q_text, t_text in zip(_texts(pair.query), _texts(pair.target), strict=True):
        found = difference(clean(q_text), clean(t_text))
        if found is None:
            continue
        q, t = found
        if {q.lower(), t.lower()} & _NEGATIONS:
            return None  # what the other denies, neither shows
        if t and q:
            return Relation("one thing differs", {"q": q, "t": t})
        if t:
            return Relation("one thing is added", {"t": t})
        return Relation("one thing is taken away", {"q": q})
    return None


_NEGATIONS = frozenset(["not", "no", "non", "without"])


def _texts(picture: Picture) -> tuple[str, ...]:
    mention = picture.mention
    return (mention.caption, mention.figure, mention.alt, mention.title)


def difference(query: str, target: str) -> tuple[str, str] | None:
    """(what only the query has, what only the target has) of two phrases that are alike but for
    one place; None otherwise. A bare number takes the word before it along."""
    one, other = query.split(), target.split()
    if min(len(one), len(other)) < 2 or max(len(one), len(other)) > 16:
        return None
    lower = [w.lower().strip(",.") for w in one], [w.lower().strip(",.") for w in other]
    blocks = SequenceMatcher(None, *lower, autojunk=False).get_opcodes()
    changed = [b for b in blocks if b[0] != "equal"]
    equal = sum(b[2] - b[1] for b in blocks if b[0] == "equal")
    if len(changed) != 1 or equal < 2 or equal < 0.4 * max(len(one), len(other)):
        return None
    _, q_from, q_to, t_from, t_to = changed[0]
    if max(q_to - q_from, t_to - t_from) > 5:
        return None
    back = _words_before(one, q_from, other[t_from:t_to] + one[q_from:q_to])
    q = " ".join(one[q_from - back : q_to]) if q_to > q_from else ""
    t = " ".join(other[t_from - back : t_to]) if t_to > t_from else ""
    pieces = [_tidy(piece) for piece in (q, t)]
    if not all(_is_piece(piece) for piece in pieces if piece) or not any(pieces):
        return None
    if all(set(words(piece)) <= _KIND_WORDS for piece in pieces):
        return None
    return pieces[0], pieces[1]


def _words_before(text: list[str], start: int, changed: list[str]) -> int:
    """How many words to take along so that a number is a number of something."""
    if any(re.search(r"[A-Za-z]{3}", word) for word in changed):
        return 0
    back = 0
    while back < min(start, 3):
        back += 1
        if re.search(r"[A-Za-z]{3}", text[start - back]):
            break
    return back


def _tidy(piece: str) -> str:
    return re.sub(
        r"^(?:the|a|an|and|with|of|for)\s+|\s+(?:the|a|an|and|of|with)$", "", piece
    ).strip(" ,.:;()=")


def _is_piece(piece: str) -> bool:
    found = words(piece)
    return (
        bool(found)
        and any(len(word) > 2 or word.isdigit() for word in found)
        and (is_fit(piece) or bool(re.search(r"\d", piece)))
    )


def _kind_change(pair: Pair) -> Relation | None:
    """From a picture to what belongs to it: its dialog, its place in the menu, an example."""
    query, target = kind_of(pair.query), kind_of(pair.target)
    if not target or query == target or not _same_topic(pair):
        return None
    if target in ("before", "after") and query not in ("controls", "menu", "toolbox"):
        return None
    name = "example" if target == "after" else target
    if name not in _LEADS_TO or (name == "histogram" and "histogram" in _all_words(pair.query)):
        return None
    if query == name or (query in ("", "before", "after") and name == "example"):
        return None
    if query == "before" or ("" in (query, target) and not _under_one_heading(pair)):
        return None  # what was not made with a thing does not lead to its dialog
    if not _rivals(pair):
        return Relation(f"its {name}")
    detail = _residual(pair)
    return Relation(f"its {name}, one of several", {"t": detail}) if detail else None


_LEADS_TO = frozenset(["controls", "menu", "context menu", "toolbox", "histogram", "example"])
"""Kinds that belong to one thing. A diagram or a mask may belong to any picture of the page."""


def _all_words(picture: Picture) -> set[str]:
    mention = picture.mention
    texts = (mention.caption, mention.figure, mention.alt, mention.title, *mention.headings)
    return {word.rstrip("s") for word in words(" ".join(texts))}


def _residual(pair: Pair) -> str:
    """What is said of the target beyond topic and kind: "Light" of "Map Object options (Light)"."""
    own = own_phrase(pair.target)
    known = set(words(topic(pair.target, pair.page_title))) | _KIND_WORDS
    known |= set(words(" ".join(pair.target.mention.headings[:1]))) | set(words(pair.page_title))
    known |= {"applied", "result", "original", "output", "input", "default"}
    left = [word for word in own.split() if not set(words(word)) <= known]
    phrase = " ".join(left).strip(" ,.:;()")
    tells = len(left) > 1 or phrase[:1].isupper()
    return phrase if tells and len(left) <= 4 and is_fit(phrase) and phrase in own else ""


def _counterpart(pair: Pair) -> Relation | None:
    """Two pictures of a kind: "the scales selector instead of the watercolour selector"."""
    q, t = own_phrase(pair.query), own_phrase(pair.target)
    if not q or not t or q.lower() == t.lower() or max(len(words(q)), len(words(t))) > 8:
        return None
    if kind_of(pair.query) != kind_of(pair.target) or not _alike_in_words(pair, q, t):
        return None
    if words(q)[-1] != words(t)[-1] or len(words(t)) < 2:
        return Relation("its case", {"q": q, "t": t})
    this = _THIS.get(kind_of(pair.query), "this")
    return Relation("its counterpart", {"q": q, "t": t, "this": this})


def _alike_in_words(pair: Pair, q: str, t: str) -> bool:
    """Whether two phrases name things of a sort: they share a word, a figure, or a list."""
    one, other = pair.query.mention, pair.target.mention
    if (set(words(q)) & set(words(t))) - _KIND_WORDS or words(q)[-1] == words(t)[-1]:
        return True
    if _same_figure(pair) or {one.caption, one.figure, other.caption, other.figure} == {""}:
        return one.headings == other.headings and bool(one.term) == bool(other.term)
    return False


def _other_section(pair: Pair) -> Relation | None:
    """The same for another section: "Dilation" for "Erosion"."""
    q, t = section(pair.query), section(pair.target)
    if not t or q.lower() == t.lower() or len(words(t)) > 7:
        return None
    if pair.scores.get("section", 1.0) > 1:
        return None  # the section shows several pictures: its heading singles out none
    if len(pair.query.mention.headings) != len(pair.target.mention.headings):
        return None
    if pair.query.mention.headings[:-1] != pair.target.mention.headings[:-1]:
        return None
    return Relation("another section", {"q": q, "t": t} if q else {"t": t})


def _next_or_previous(pair: Pair) -> Relation | None:
    """A step forward or back among the pictures of one section, told by what it shows."""
    if not _same_figure(pair):
        return None
    steps = pair.target.mention.position - pair.query.mention.position
    t = next(own_phrases(pair.target), "")
    if abs(steps) != 1 or not t or len(words(t)) > 9:
        return None
    return Relation("the next one" if steps > 0 else "the one before", {"t": t})


def _tones(pair: Pair) -> Relation | None:
    """The same picture in other tones, by its pixels."""
    one, other = pair.query, pair.target
    least = 0.75 if _same_figure(pair) else 0.93
    if pair.scores.get("image", 0.0) < least or one.mention.headings != other.mention.headings:
        return None
    if (one.width, one.height) != (other.width, other.height):
        return None
    if one.colourfulness > 15 and other.colourfulness < 2:
        return Relation("without colour")
    if other.brightness - one.brightness > 0.12:
        return Relation("brighter")
    if one.brightness - other.brightness > 0.12:
        return Relation("darker")
    if other.sharpness < 0.55 * one.sharpness:
        return Relation("softer")
    if one.sharpness < 0.55 * other.sharpness:
        return Relation("sharper")
    return None


_RULES: tuple[Callable[[Pair], Relation | None], ...] = (
    _before_to_after,
    _after_to_before,
    _kind_change,
    _contrast,
    _counterpart,
    _other_section,
    _next_or_previous,
    _tones,
)
