"""Counts in and out of a stage, and a reason for everything that is turned away."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

UNANSWERED = "questions without an answer"
"""The fact that counts what a later run asks again."""


@dataclass
class Funnel:
    """What entered a stage, what left it, and why the rest did not.

    Every count belongs to a unit ("pages", "images", "pairs"); for each unit that a stage both
    takes in and puts out, `entered` = `left` + the sum of its rejections.
    """

    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    facts: Counter[str] = field(default_factory=Counter)
    """Further sums that are no part of the balance: tokens, bytes, cache hits."""

    def enter(self, unit: str, count: int = 1) -> None:
        """Count what a stage takes in."""
        self.entered[unit] += count

    def leave(self, unit: str, count: int = 1) -> None:
        """Count what a stage hands on."""
        self.left[unit] += count

    def reject(self, unit: str, reason: str, count: int = 1) -> None:
        """Count what is turned away; a reason that met none is not listed."""
        if count:
            self.rejected.setdefault(unit, Counter())[reason] += count

    def add(self, other: Self) -> None:
        """Take in the counts of another part of the same stage."""
        self.entered.update(other.entered)
        self.left.update(other.left)
        self.facts.update(other.facts)
        for unit, reasons in other.rejected.items():
            self.rejected.setdefault(unit, Counter()).update(reasons)

    def lost(self, unit: str) -> int:
        """How many of a unit entered and neither left nor were rejected; 0 if all is accounted."""
        turned_away = sum(self.rejected.get(unit, Counter()).values())
        return self.entered[unit] - self.left[unit] - turned_away

    def as_json(self) -> dict[str, Any]:
        """As funnel.json has it; reasons by how often they were met."""
        return {
            "in": dict(sorted(self.entered.items())),
            "out": dict(sorted(self.left.items())),
            "rejected": {
                unit: dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
                for unit, reasons in sorted(self.rejected.items())
            },
            "facts": dict(sorted(self.facts.items())),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of `as_json`. Raises KeyError where something is missing."""
        return cls(
            entered=Counter(data["in"]),
            left=Counter(data["out"]),
            rejected={unit: Counter(reasons) for unit, reasons in data["rejected"].items()},
            facts=Counter(data["facts"]),
        )


def total(funnels: Iterable[Funnel]) -> Funnel:
    """The sum of the funnels of a stage's parts."""
    result = Funnel()
    for funnel in funnels:
        result.add(funnel)
    return result
