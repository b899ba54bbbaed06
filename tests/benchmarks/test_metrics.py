"""Every metric against a slow computation that walks the ranked list, on 1,000 random cases."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from lensctl_training.benchmarks import metrics
from lensctl_training.benchmarks.triplets import evaluate_triplets

CASES = 1000


class Case:
    """Scores on a coarse grid, so that ties are common, with several right answers."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        size = draw.randint(1, 40)
        self.scores = [draw.randint(0, draw.choice([1, 4, 100])) / 8 for _ in range(size)]
        everything = list(range(size))
        self.positives = draw.sample(everything, draw.randint(1, size))
        others = [i for i in everything if i not in self.positives]
        self.excluded = draw.sample(others, draw.randint(0, len(others)))
        self.k = draw.randint(1, size + 5)

    def relevance(self) -> list[bool]:
        """The ranked list, best first, a wrong candidate before a right one of the same score."""
        kept = [i for i in range(len(self.scores)) if i not in self.excluded]
        kept.sort(key=lambda i: (-self.scores[i], i in self.positives))
        return [i in self.positives for i in kept]

    def ranks(self) -> metrics.Ranks:
        return metrics.rank_positives(self.scores, self.positives, self.excluded).ranks


def walk_precision(relevance: list[bool], k: int) -> float:
    return sum(relevance[:k]) / k


def walk_capped_precision(relevance: list[bool], k: int) -> float:
    return sum(relevance[:k]) / min(k, sum(relevance))


def walk_true_recall(relevance: list[bool], k: int) -> float:
    return sum(relevance[:k]) / sum(relevance)


def walk_hit_rate(relevance: list[bool], k: int) -> float:
    return 1.0 if any(relevance[:k]) else 0.0


def walk_average_precision_at(relevance: list[bool], k: int) -> float:
    total = 0.0
    for position, right in enumerate(relevance[:k], start=1):
        if right:
            total += walk_precision(relevance, position)
    return total / min(sum(relevance), k)


def walk_average_precision(relevance: list[bool]) -> float:
    return walk_average_precision_at(relevance, len(relevance))


def walk_interpolated(relevance: list[bool]) -> float:
    """The area under the precision envelope, by the recipe of the VOC development kit."""
    recalls, precisions = [0.0], [0.0]
    for position in range(1, len(relevance) + 1):
        recalls.append(walk_true_recall(relevance, position))
        precisions.append(walk_precision(relevance, position))
    recalls.append(1.0)
    precisions.append(0.0)
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    steps = range(1, len(recalls))
    return sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in steps)


def walk_reciprocal_rank(relevance: list[bool]) -> float:
    return 1 / (relevance.index(True) + 1)


@pytest.mark.parametrize(
    ("metric", "walk"),
    [
        (metrics.precision_at, walk_precision),
        (metrics.capped_precision_at, walk_capped_precision),
        (metrics.true_recall_at, walk_true_recall),
        (metrics.hit_rate_at, walk_hit_rate),
        (metrics.average_precision_at, walk_average_precision_at),
    ],
)
def test_metric_at_k(
    metric: Callable[[metrics.Ranks, int], float], walk: Callable[[list[bool], int], float]
) -> None:
    for seed in range(CASES):
        case = Case(seed)
        expected = walk(case.relevance(), case.k)
        assert metric(case.ranks(), case.k) == pytest.approx(expected, abs=1e-12), seed


@pytest.mark.parametrize(
    ("metric", "walk"),
    [
        (metrics.average_precision, walk_average_precision),
        (metrics.interpolated_average_precision, walk_interpolated),
        (metrics.reciprocal_rank, walk_reciprocal_rank),
    ],
)
def test_metric_over_all(
    metric: Callable[[metrics.Ranks], float], walk: Callable[[list[bool]], float]
) -> None:
    for seed in range(CASES):
        case = Case(seed)
        assert metric(case.ranks()) == pytest.approx(walk(case.relevance()), abs=1e-12), seed


def test_subset_recall_is_the_hit_rate_among_the_subset() -> None:
    """CIRR's Rsub: only the members of the query's image set compete."""
    for seed in range(CASES):
        case = Case(seed)
        subset = sorted({*case.positives, *random.Random(seed).sample(range(len(case.scores)), 1)})
        own = [i for i, member in enumerate(subset) if member in case.positives]
        ranks = metrics.rank_positives(np.array(case.scores)[subset], own).ranks
        case.excluded = [i for i in range(len(case.scores)) if i not in subset]
        assert metrics.hit_rate_at(ranks, case.k) == walk_hit_rate(case.relevance(), case.k)


def test_tied_says_whether_a_right_and_a_wrong_answer_share_a_score() -> None:
    seen = set()
    for seed in range(CASES):
        case = Case(seed)
        right = {case.scores[i] for i in case.positives}
        blocked = {*case.positives, *case.excluded}
        wrong = {case.scores[i] for i in range(len(case.scores)) if i not in blocked}
        ranked = metrics.rank_positives(case.scores, case.positives, case.excluded)
        assert ranked.tied == bool(right & wrong)
        seen.add(ranked.tied)
    assert seen == {True, False}


def test_a_constant_score_earns_nothing() -> None:
    ranked = metrics.rank_positives(np.zeros(100), [0])
    assert ranked.ranks.tolist() == [100.0]
    assert ranked.tied


def test_an_unreachable_answer_stays_in_the_denominator() -> None:
    ranks = metrics.rank_positives([3.0, 2.0, 1.0], [0], unreachable=1).ranks
    assert ranks.tolist() == [1.0, np.inf]
    assert metrics.true_recall_at(ranks, 3) == 0.5
    assert metrics.average_precision(ranks) == 0.5
    assert metrics.interpolated_average_precision(ranks) == 0.5
    lost = metrics.rank_positives([3.0], [], unreachable=1).ranks
    assert metrics.reciprocal_rank(lost) == 0.0
    assert metrics.hit_rate_at(lost, 10**9) == 0.0


@pytest.mark.parametrize(
    ("scores", "positives", "excluded"),
    [
        ([1.0, np.nan], [0], []),
        ([1.0], [], []),
        ([1.0], [0], [0]),
        ([1.0], [1], []),
        ([1.0], [-1], []),
    ],
)
def test_what_cannot_be_scored_is_refused(
    scores: list[float], positives: list[int], excluded: list[int]
) -> None:
    with pytest.raises(ValueError, match=r"finite|right answer|outside"):
        metrics.rank_positives(scores, positives, excluded)


def test_top_k_is_a_stable_sort() -> None:
    for seed in range(CASES):
        case = Case(seed)
        kept = [i for i in range(len(case.scores)) if i not in case.excluded]
        kept.sort(key=lambda i: -case.scores[i])
        found = metrics.top_k(np.array(case.scores), case.k, case.excluded)
        assert found.tolist() == kept[: case.k], seed


def test_triplets_by_hand() -> None:
    """Three queries, three targets and two more candidates on a line, worked out on paper."""
    queries = np.ones((3, 1))
    targets = np.array([[0.9], [0.5], [0.5]])
    gallery = np.array([[0.7], [0.5]])
    scores = evaluate_triplets(queries, targets, gallery, references=[3, 3, -1])
    # Ranks 1, 5, 5: the two targets at 0.5 tie with each other and with the last candidate.
    assert scores["recall@1"] == pytest.approx(1 / 3)
    assert scores["recall@5"] == 1.0
    assert scores["mrr"] == pytest.approx((1 + 1 / 5 + 1 / 5) / 3)
    assert scores["median_rank"] == 5.0
    assert scores["tied"] == pytest.approx(2 / 3)
    assert scores["reference_first"] == pytest.approx(1 / 3)
    assert (scores["queries"], scores["candidates"]) == (3.0, 5.0)


def test_triplets_share_targets_and_leave_out() -> None:
    queries = np.ones((2, 1))
    targets = np.array([[0.5], [0.5]])
    gallery = np.array([[0.7]])
    scores = evaluate_triplets(
        queries, targets, gallery, positives=[[0, 1], [0, 1]], exclude=[[2], []]
    )
    assert scores["recall@1"] == 0.5
    assert scores["tied"] == 0.0


def test_triplets_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        evaluate_triplets(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="no query"):
        evaluate_triplets(np.ones((0, 3)), np.ones((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        evaluate_triplets(np.full((1, 3), np.nan), np.ones((1, 3)))


def test_a_query_that_is_its_own_answer_does_not_beat_it() -> None:
    scores = evaluate_triplets(np.ones((1, 1)), np.ones((1, 1)), references=[0])
    assert scores["reference_first"] == 0.0
