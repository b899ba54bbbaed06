"""The rule-based writer: which relation it finds, how it words it, what it refuses."""

import dataclasses
from string import Formatter

import pytest

from lensctl_training.mining.filters import objection
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.phrases import clean, is_fit
from lensctl_training.mining.records import Mention, Pair, Picture
from lensctl_training.mining.relations import Relation, difference, find_relation
from lensctl_training.mining.rule_writer import word, write_by_rules
from lensctl_training.mining.wordings import PHRASES, SENTENCES


def pictured(position: int, **words: object) -> Picture:
    mention = Mention(urls=(f"http://a.example/{position}.png",), position=position)
    return Picture(
        mention=dataclasses.replace(mention, **words),
        url=f"http://a.example/{position}.png",
        sha256=str(position),
        width=300,
        height=300,
        brightness=0.5,
        colourfulness=30.0,
        sharpness=20.0,
    )


def paired(query: dict[str, object], target: dict[str, object], **scores: float) -> Pair:
    return Pair(
        key="k", page="http://a.example/", site="a.example", page_title="Handbook", language="en",
        query=pictured(0, **query), target=pictured(1, **target),
        scores={"image": 0.8, "text": 0.5, "rivals": 0, "section": 1} | scores,
    )  # fmt: skip


BEFORE = {"caption": "Original image", "figure": "Figure 1. Example for the “Cartoon” filter"}
AFTER = {"caption": "Filter “Cartoon” applied", "figure": BEFORE["figure"]}
DIALOG = {"figure": "Figure 2. “Cartoon” filter options"}


@pytest.mark.parametrize(
    ("query", "target", "name", "slots"),
    [
        (BEFORE, AFTER, "before to after", {"op": "the Cartoon filter"}),
        (AFTER, BEFORE, "after to before", {"op": "the Cartoon filter"}),
        (AFTER, DIALOG, "its controls", {}),
        (DIALOG, AFTER, "its example", {}),
        (
            {"caption": "Exported as JPEG with quality 90"},
            {"caption": "Exported as JPEG with quality 20"},
            "one thing differs",
            {"q": "quality 90", "t": "quality 20"},
        ),
        (
            {"figure": "The Scales selector"},
            {"figure": "Watercolor Color selector"},
            "its counterpart",
            {"q": "Scales selector", "t": "Watercolor Color selector", "this": "this"},
        ),
        (
            {"headings": ("Theory", "Erosion")},
            {"headings": ("Theory", "Dilation")},
            "another section",
            {"q": "erosion", "t": "dilation"},
        ),
    ],
)
def test_a_relation_is_found_in_the_words(
    query: dict[str, object], target: dict[str, object], name: str, slots: dict[str, str]
) -> None:
    assert find_relation(paired(query, target)) == Relation(name, slots)


@pytest.mark.parametrize(
    ("query", "target", "scores"),
    [
        ({"alt": "image"}, {"alt": "photo"}, {}),
        (BEFORE, DIALOG, {}),
        ({"headings": ("A", "Erosion")}, {"headings": ("A", "Dilation")}, {"section": 3}),
        ({"caption": "A harbour"}, {"caption": "Tomato soup"}, {}),
    ],
    ids=["says nothing", "not made by the dialog", "a section of several", "no common ground"],
)
def test_no_relation_is_made_up(
    query: dict[str, object], target: dict[str, object], scores: dict[str, float]
) -> None:
    funnel = Funnel()
    assert write_by_rules(paired(query, target, **scores), funnel, 30) is None
    assert funnel.rejected["pairs"] == {"the words tell of no relation": 1}


def test_a_file_called_an_example_is_no_dialog() -> None:
    pair = paired({"alt": "A hard brush"}, {"alt": "Brush force option"}, section=3)
    assert find_relation(pair) == Relation("its controls")
    example = dataclasses.replace(pair.target, url="http://a.example/brush-force-ex1.png")
    found = find_relation(dataclasses.replace(pair, target=example))
    assert found is None or found.name != "its controls"


def test_what_another_caption_denies_is_not_taken_away() -> None:
    texts = [{"caption": f"The module is{word} loaded"} for word in (" not", " now", "")]
    denied, now, plain = texts
    assert find_relation(paired(now, plain)) == Relation("one thing is taken away", {"q": "now"})
    assert "taken away" not in find_relation(paired(denied, plain)).name


def test_a_picture_unlike_the_original_is_no_edit_of_it() -> None:
    words = {"caption": "", "figure": BEFORE["figure"]}
    assert find_relation(paired(AFTER, BEFORE)).name.startswith("after to before")
    relation = find_relation(paired(words, BEFORE, image=0.3))
    assert relation is None or not relation.name.startswith("after to before")


def test_one_of_several_dialogs_is_named() -> None:
    after = AFTER | {"headings": ("Cartoon", "Overview")}
    plain = DIALOG | {"headings": ("Cartoon", "Options")}
    assert find_relation(paired(after, plain, rivals=2)) is None
    light = plain | {"figure": "“Cartoon” options (Light)"}
    found = find_relation(paired(after, light, rivals=2))
    assert found == Relation("its controls, one of several", {"t": "Light"})


def test_the_same_pair_always_gets_the_same_words() -> None:
    pair = paired(BEFORE, AFTER)
    first = write_by_rules(pair, Funnel(), 30)
    assert first is not None
    assert first == write_by_rules(pair, Funnel(), 30)
    assert first.writer == "rule-based"
    assert "{" not in first.instruction


def test_many_wordings() -> None:
    relation = Relation("one thing differs", {"q": "quality 90", "t": "quality 20"})
    forms = {word(relation, str(seed)).form for seed in range(1000)}
    assert len(forms) >= 200


def test_every_wording_can_be_filled() -> None:
    known = {"q", "t", "op", "this"}
    for name, wordings in [*PHRASES.items(), *SENTENCES.items()]:
        assert len(set(wordings)) == len(wordings), name
        slots = {slot for text in wordings for _, slot, _, _ in Formatter().parse(text) if slot}
        assert slots <= known, name
    assert set(SENTENCES) <= set(PHRASES)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Figure 17.11. Example for the “Gaussian Blur” filter", "Gaussian Blur filter"),
        ("3.2. Making Borders", "Making Borders"),
        ("The result. A second sentence.", "result"),
        ("Noise magnitude = 4", "noise magnitude = 4"),
        ("Euler number¶", "euler number"),
        ("GIMP at work [*]", "GIMP at work"),
    ],
)
def test_captions_become_phrases(text: str, phrase: str) -> None:
    assert clean(text) == phrase


@pytest.mark.parametrize(
    "text",
    ["image", "IMG_2033.jpg", "x = f(a); {b}", "http://a.example", "a, b, c, d", "12 34", ""],
)
def test_what_is_no_phrase(text: str) -> None:
    assert not is_fit(text)


def test_differences() -> None:
    assert difference("with option checked", "with option unchecked") == ("checked", "unchecked")
    assert difference("a red car", "the blue house by night") is None
    assert difference("Wind filter options", "Wind filter example") is None
    assert difference("radius 5 blur", "radius 9 blur") == ("radius 5", "radius 9")


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("red door", "instruction only describes the target"),
        ("show me the green door of the old mill", "instruction copies the target's text"),
        ("like this but IMG_0012.jpg", "instruction leaks a file name"),
        ("I'm sorry, I can't see this image", "the writer refused"),
        ("this", "instruction too short"),
        ("this " * 40, "instruction too long"),
        ("this with <b>bold</b> letters", "instruction is not plain language"),
        ("make this one 12 34 56 78 90 12 34 56", "instruction is not plain language"),
        ("the same door, seen from inside", ""),
        ("what is behind it?", ""),
    ],
)
def test_unfit_instructions_have_a_reason(instruction: str, reason: str) -> None:
    pair = paired({"caption": "The old mill"}, {"caption": "The green door of the old mill"})
    assert objection(instruction, pair, 30) == reason
