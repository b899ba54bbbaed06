"""A blind comparison of two models on a user's own library: the paper's human study, repeatable.

Two models answer the same questions; a person sees both answers side by side without knowing whose
is whose, and votes. Which side is whose is drawn once from a seed and kept in ballot.json, so that
votes can be counted later, and voting can go on another day.

    ballot.json   the questions, both answers, the sides; written once
    votes.jsonl   one {"question": number, "choice": "a" | "b" | "tie"} a vote, the last one counts
"""

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lensctl.config import expanded
from lensctl.errors import DataError
from lensctl.whole import write_json
from lensctl_training.benchmarks.bootstrap import Interval, estimate
from lensctl_training.json_lines import append_lines, read_lines

Choice = Literal["a", "b", "tie"]
Side = Literal["left", "right", "tie"]
BALLOT, VOTES = "ballot.json", "votes.jsonl"


@dataclass(frozen=True)
class Ask:
    """One line of the queries file: a photo, an instruction or words, or both."""

    image: str = ""
    text: str = ""


@dataclass(frozen=True)
class Pairing:
    """A question with the answers of both models, as paths of photos, best first.

    `a_is_left` says where model A's answer is shown.
    """

    ask: Ask
    a: tuple[str, ...]
    b: tuple[str, ...]
    a_is_left: bool

    @property
    def identical(self) -> bool:
        """Both models gave the same photos in the same order: a tie that nobody needs to see."""
        return self.a == self.b

    def chosen(self, side: Side) -> Choice:
        """What a vote for a side means."""
        if side == "tie":
            return "tie"
        return "a" if (side == "left") == self.a_is_left else "b"


@dataclass(frozen=True)
class Ballot:
    """All pairings of two models; `folder` holds the votes."""

    folder: Path
    model_a: str
    model_b: str
    seed: int
    pairings: tuple[Pairing, ...]


@dataclass(frozen=True)
class Summary:
    """What the votes say.

    Args:
        a, b: questions won by each model.
        ties: questions voted equal, and those that both models answered alike (`identical`).
        unvoted: questions still open.
        share: of A among the decided questions; `low` to `high` is its 95 % Wilson interval.
        p_value: of a two-sided sign test that neither model is preferred.
        score: of A with a tie as half; `score_low` to `score_high` is its 95 % bootstrap interval
            over questions.
    """

    a: int
    b: int
    ties: int
    identical: int
    unvoted: int
    share: float
    low: float
    high: float
    p_value: float
    score: float
    score_low: float
    score_high: float


def read_asks(path: Path) -> list[Ask]:
    """JSON lines {"image": PATH, "text": WORDS}, one of them may be left out.

    Paths are relative to the file's folder.

    Raises:
        DataError: the file cannot be read, or a line is not such an object or names an image that
            is not there.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read",
            why=str(error),
            next_step='give a UTF-8 file of lines like {"text": "red barn"}',
        ) from error
    asks = []
    # Not splitlines: JSON may hold the other separators of lines as they are.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            image, text = entry.get("image", ""), entry.get("text", "")
            if not isinstance(image, str) or not isinstance(text, str) or not (image or text):
                raise ValueError("neither image nor text")
        except (ValueError, AttributeError, RecursionError) as error:
            raise _bad_line(path, number, str(error)) from error
        place = path.parent / expanded(image) if image else None
        if place is not None and not place.is_file():
            raise _bad_line(path, number, f"there is no image {place}")
        asks.append(Ask(str(place.resolve()) if place else "", text))
    if not asks:
        raise DataError(f"there is no question in {path}", next_step='{"text": "red barn"}')
    return asks


def _bad_line(path: Path, number: int, why: str) -> DataError:
    return DataError(
        f"line {number} of {path} cannot be used",
        why=why,
        next_step='each line is like {"image": "photo.jpg", "text": "the same at night"}',
    )


def make_ballot(
    folder: Path,
    models: tuple[str, str],
    asks: Sequence[Ask],
    answers: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    seed: int,
) -> Ballot:
    """Draw the sides and write the ballot. Raises DataError where another one is already there."""
    draw = random.Random(seed)
    pairings = tuple(
        Pairing(ask, tuple(a), tuple(b), draw.random() < 0.5)
        for ask, a, b in zip(asks, *answers, strict=True)
    )
    ballot = Ballot(folder, *models, seed, pairings)
    content = asdict(ballot) | {"folder": ""}
    if (folder / BALLOT).exists():
        if _kept(folder / BALLOT) == json.loads(json.dumps(content)):
            return ballot
        raise DataError(
            f"{folder} holds the votes of another comparison",
            why="the models, the questions or their answers are not the same, or its "
            f"{BALLOT} is damaged",
            next_step=f"give --out another folder; a damaged {BALLOT} can be deleted, as the same "
            "questions, answers and --seed make the same one",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / BALLOT, content)
    return ballot


def _kept(path: Path) -> Any:
    """What a ballot file holds; None where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None


def read_ballot(folder: Path) -> Ballot:
    """The ballot in a folder. Raises DataError where there is none."""
    try:
        content = json.loads((folder / BALLOT).read_text(encoding="utf-8"))
        pairings = tuple(
            Pairing(Ask(**p["ask"]), tuple(p["a"]), tuple(p["b"]), p["a_is_left"])
            for p in content["pairings"]
        )
        return Ballot(folder, content["model_a"], content["model_b"], content["seed"], pairings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"there is no comparison in {folder}",
            why=str(error),
            next_step="lensctl eval compare A B --queries FILE --out FOLDER",
        ) from error


def cast_vote(ballot: Ballot, number: int, side: Side) -> None:
    """Keep a vote; a later one on the same question replaces it."""
    line = {"question": number, "choice": ballot.pairings[number].chosen(side)}
    append_lines(ballot.folder / VOTES, [line])


def read_votes(ballot: Ballot) -> dict[int, Choice]:
    """Question -> choice, the last vote on each. What is no vote on one of them does not count."""
    votes: dict[int, Choice] = {}
    for entry in read_lines(ballot.folder / VOTES):
        match entry:
            case {"question": int(number), "choice": "a" | "b" | "tie" as choice}:
                if 0 <= number < len(ballot.pairings):
                    votes[number] = choice
    return votes


def summarise(ballot: Ballot) -> Summary:
    """Count the votes; questions that both models answered alike are ties."""
    votes = read_votes(ballot)
    same = [number for number, pairing in enumerate(ballot.pairings) if pairing.identical]
    counts = Counter(choice for number, choice in votes.items() if number not in same)
    a, b, ties = counts["a"], counts["b"], counts["tie"] + len(same)
    low, high, p_value = _test(a, b)
    values = [1.0] * a + [0.0] * b + [0.5] * ties
    score_low, score_high = _mean_interval(values)
    return Summary(
        a=a,
        b=b,
        ties=ties,
        identical=len(same),
        unvoted=len(ballot.pairings) - a - b - ties,
        share=a / (a + b) if a + b else math.nan,
        low=low,
        high=high,
        p_value=p_value,
        score=sum(values) / len(values) if values else math.nan,
        score_low=score_low,
        score_high=score_high,
    )


def _test(a: int, b: int) -> tuple[float, float, float]:
    """The 95 % Wilson interval of a / (a + b), and the p of a two-sided sign test."""
    if a + b == 0:
        return 0.0, 1.0, 1.0
    from scipy.stats import binomtest

    result = binomtest(a, a + b)
    interval = result.proportion_ci(method="wilson")
    return float(interval.low), float(interval.high), float(result.pvalue)


def _mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % bootstrap interval of a mean; not a number where there is no value."""
    if not values:
        return math.nan, math.nan
    ids = [str(number) for number in range(len(values))]
    return estimate(np.array(values)[:, None], ids)[0].interval


def describe(ballot: Ballot, summary: Summary) -> str:
    """The outcome in words, for a terminal or a page."""
    a, b = ballot.model_a, ballot.model_b
    lines = [
        f"{a} better: {summary.a}",
        f"{b} better: {summary.b}",
        f"equal: {summary.ties}, of which {summary.identical} had the same answers",
        f"still open: {summary.unvoted}",
    ]
    if summary.a + summary.b:
        lines += [
            f"{a} is preferred in {100 * summary.share:.1f} % of the decided questions "
            f"(95 % interval {100 * summary.low:.1f} to {100 * summary.high:.1f}; "
            f"sign test p = {summary.p_value:.3g})",
            f"with ties as half: {100 * summary.score:.1f} % "
            f"({100 * summary.score_low:.1f} to {100 * summary.score_high:.1f})",
        ]
    return "\n".join(lines)
