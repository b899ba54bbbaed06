"""One training example, and the count of examples that were not usable."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lensctl.errors import DataError


@dataclass(frozen=True)
class Triplet:
    """(query image, instruction) -> target image; the images still encoded (JPEG or PNG bytes).

    `negatives` are images that a model is likely to confuse with the target. `provenance` says
    where the triplet comes from: any JSON object.
    """

    key: str
    query: bytes
    target: bytes
    instruction: str
    provenance: dict[str, Any] = field(default_factory=dict)
    negatives: tuple[bytes, ...] = ()


def what_is_wrong(instruction: object, provenance: object) -> str:
    """Why these two, as a file has them, make no triplet; empty where they do."""
    if not isinstance(instruction, str) or not instruction.strip():
        return "empty instruction"
    if not isinstance(provenance, dict):
        return "provenance that is no object"
    try:
        json.dumps([instruction, provenance], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # JSON can write halves of surrogate pairs, which no file and no page can.
        return "text that is no Unicode"
    return ""


@dataclass
class Problems:
    """What was wrong with the data: every case counted by its reason, the first few named.

    `limit` is how many are put up with; None means any number. One more raises DataError.
    """

    limit: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    named: int = 10
    _seen: dict[tuple[str, str], None] = field(default_factory=dict, repr=False)

    def add(self, reason: str, where: str) -> None:
        """Count one case of `reason` at `where`; raise DataError when the limit is passed.

        A case that is met again, in a later epoch, is the same case.
        """
        # Names of files and of tar members need not be text, but logs and pages are.
        where = where.encode("utf-8", "backslashreplace").decode()
        if (reason, where) in self._seen:
            return
        self._seen[reason, where] = None
        self.counts[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < self.named:
            names.append(where)
        if self.limit is not None and self.total > self.limit:
            raise DataError(
                f"{self.total} bad examples, more than the {self.limit} allowed",
                why="; ".join(self.lines()),
                next_step="run `lensctl train check DATA`, or raise data.max_bad in the recipe",
            )

    @property
    def total(self) -> int:
        """All cases of all reasons."""
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """One line a reason: how many, which, and the first few places."""
        return [
            f"{count} x {reason}: {', '.join(self.examples.get(reason, []))}"
            for reason, count in self.counts.most_common()
        ]

    def listed(self) -> list[tuple[str, str]]:
        """All cases as (reason, where), in the order they were met."""
        return list(self._seen)
