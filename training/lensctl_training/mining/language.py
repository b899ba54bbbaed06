"""Is this English? A guess for pages that do not declare their language.

Function words decide: they are a third of any English text and rare elsewhere. Other languages
are told apart only as far as a writer needs, "en", "other" or unknown.
"""

from lensctl_training.mining.text import word_set, words

_ENGLISH = word_set(
    "the of and to a in is that it for on with as this by from at or an be are was which you "
    "your not can if will has have its one all more when then use used"
)
_ENOUGH_WORDS = 30


def guess_language(text: str) -> str:
    """ "en", "other", or "" for a text too short to tell."""
    found = words(text)
    if len(found) < _ENOUGH_WORDS:
        return ""
    share = sum(word in _ENGLISH for word in found) / len(found)
    return "en" if share > 0.14 else "other"
