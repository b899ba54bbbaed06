"""Instructions without a language model: a relation found in the words, put into one of many
wordings. Labelled "rule-based" in the data, so that no one takes them for a model's."""

from dataclasses import dataclass

from lensctl_training.mining.filters import objection
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.records import Instructed, Pair
from lensctl_training.mining.relations import Relation, find_relation
from lensctl_training.mining.urls import stable_fraction
from lensctl_training.mining.wordings import (
    CLOSINGS,
    OPENINGS,
    OPENINGS_OF_CLAUSES,
    PHRASES,
    SENTENCES,
)

VERSION = "rules-4"
NAME = "rule-based"
_TRIES = 4


@dataclass(frozen=True)
class Worded:
    """An instruction, and its form: the wording with its slots blanked."""

    instruction: str
    form: str


def write_by_rules(pair: Pair, funnel: Funnel, max_words: int) -> Instructed | None:
    """One instruction, or None (counted with its reason). The same pair always gets the same."""
    relation = find_relation(pair)
    if relation is None:
        funnel.reject("pairs", "the words tell of no relation")
        return None
    reason = ""
    for attempt in range(_TRIES):
        worded = word(relation, f"{pair.key} {attempt}")
        reason = objection(worded.instruction, pair, max_words)
        if not reason:
            return Instructed(pair, worded.instruction, NAME, VERSION, relation.name, worded.form)
    funnel.reject("pairs", reason)
    return None


def word(relation: Relation, seed: str) -> Worded:
    """Put a relation into words; the seed chooses among the wordings."""
    name = _named_with_both(relation)
    phrases, sentences = PHRASES[name], SENTENCES.get(name, ())
    wanted = int(stable_fraction(seed) * (len(phrases) + len(sentences)))
    if wanted >= len(phrases):
        form = sentences[wanted - len(phrases)]
    else:
        form = _opened(phrases[wanted], seed)
    return Worded(_filled(form, relation.slots), form)


def _named_with_both(relation: Relation) -> str:
    if relation.name == "another section" and "q" in relation.slots:
        return "another section, both named"
    return relation.name


def _opened(phrase: str, seed: str) -> str:
    clause = phrase.startswith(("what ", "how ", "where ", "which "))
    openings = OPENINGS_OF_CLAUSES if clause else OPENINGS
    opening = openings[int(stable_fraction(f"opening {seed}") * len(openings))]
    closing = CLOSINGS[int(stable_fraction(f"closing {seed}") * len(CLOSINGS))]
    if phrase.endswith("}") and closing.startswith(" "):
        closing = ""  # "... namely the curve on the same page" reads as part of the phrase
    return opening + phrase + closing + ("?" if opening.startswith("can ") else "")


def _filled(form: str, slots: dict[str, str]) -> str:
    text = form.format(**slots)
    return text.replace("the the ", "the ").replace("the a ", "a ").replace("the an ", "an ")
