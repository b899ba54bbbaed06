"""Stage *pairs*: which two pictures of a page make a triplet, and in which order."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats
from lensctl_training.mining.annotate import (
    IMAGE_VECTORS,
    TEXT_VECTORS,
    groups_in,
    hand_on_annotator,
)
from lensctl_training.mining.config import MineConfig, PairLimits
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.groups import ROWS
from lensctl_training.mining.phrases import describe, own_phrase
from lensctl_training.mining.records import Group, Pair, Picture, write_rows
from lensctl_training.mining.relations import kind_of
from lensctl_training.mining.text import words
from lensctl_training.mining.workspace import Part, Workspace, digest

_BALANCE_FROM = 200


def run_pairs(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Choose the pairs of some sites, best first, within the limits; both orders are candidates."""
    funnel = Funnel()
    source = workspace.part_folder("annotate", part.inputs[0])
    vectors = np.load(source / IMAGE_VECTORS, mmap_mode="r")
    texts = np.load(source / TEXT_VECTORS, mmap_mode="r")
    chosen = [
        pair
        for group in groups_in(source)
        for pair in _pairs_of(group, vectors, texts, config.pairs, funnel)
    ]
    kept = _balanced(chosen, config.pairs, funnel)
    funnel.leave("pairs", len(kept))
    write_rows(out / ROWS, kept)
    hand_on_annotator(source, out)
    return funnel


def _pairs_of(
    group: Group, vectors: Floats, texts: Floats, limits: PairLimits, funnel: Funnel
) -> list[Pair]:
    """The best pairs of one page."""
    candidates = list(_candidates(group, vectors, texts, limits, funnel))
    candidates.sort(key=lambda pair: (-pair.scores["rank"], pair.key))
    kept: list[Pair] = []
    uses: Counter[int] = Counter()
    for pair in candidates:
        if uses[pair.target.mention.position] >= limits.per_target:
            funnel.reject("pairs", "target used enough on its page")
        elif len(kept) >= limits.per_page:
            funnel.reject("pairs", "page has enough pairs")
        else:
            uses[pair.target.mention.position] += 1
            kept.append(pair)
    return kept


def _candidates(
    group: Group, vectors: Floats, texts: Floats, limits: PairLimits, funnel: Funnel
) -> Iterator[Pair]:
    pictures = group.pictures
    look = vectors[[p.vector for p in pictures]].astype(np.float32)
    read = texts[[p.text_vector for p in pictures]].astype(np.float32)
    kinds = Counter(kind_of(picture) for picture in pictures)
    sections = Counter(picture.mention.headings for picture in pictures)
    phrases = Counter(own_phrase(picture) or describe(picture) for picture in pictures)
    look_alike, read_alike = look @ look.T, read @ read.T
    for i, query in enumerate(pictures):
        for j, target in enumerate(pictures):
            if i == j:
                continue
            funnel.enter("pairs")
            scores = {
                "image": float(look_alike[i, j]),
                "text": float(read_alike[i, j]),
                "section": float(sections[target.mention.headings]),
                "rivals": float(kinds[kind_of(target)] - 1 - (kind_of(query) == kind_of(target))),
            }
            reason = _reason(query, target, scores, limits)
            if not reason and phrases[own_phrase(target) or describe(target)] > 1:
                reason = "several pictures of the page are described alike"
            if reason:
                funnel.reject("pairs", reason)
            else:
                yield _pair(group, query, target, scores)


def _reason(query: Picture, target: Picture, scores: dict[str, float], limits: PairLimits) -> str:
    if scores["image"] > limits.max_image_similarity:
        return "images nearly the same"
    if scores["image"] < limits.min_image_similarity:
        return "images unrelated"
    if not describe(target):
        return "nothing is said of the target"
    if describe(query) == describe(target) or scores["text"] > limits.max_text_similarity:
        return "the same is said of both"
    return ""


def _pair(group: Group, query: Picture, target: Picture, scores: dict[str, float]) -> Pair:
    rounded = {name: round(value, 4) for name, value in scores.items()}
    rounded["rank"] = round(_rank(query, target, scores), 4)
    key = digest(group.url, query.url, target.url)[:20]
    return Pair(key, group.url, group.site, group.title, group.language, query, target, rounded)


def _rank(query: Picture, target: Picture, scores: dict[str, float]) -> float:
    """How promising a pair is: alike but not the same, close on the page, words that differ."""
    near = 1.0 / abs(query.mention.position - target.mention.position)
    together = query.mention.headings == target.mention.headings
    same_figure = bool(query.mention.figure) and query.mention.figure == target.mention.figure
    said = set(words(describe(target))) - set(words(describe(query)))
    return scores["image"] + 0.5 * near + 0.3 * together + 0.4 * same_figure + min(len(said), 4) / 8


def _balanced(pairs: list[Pair], limits: PairLimits, funnel: Funnel) -> list[Pair]:
    """At most so many pairs a site and uses of an image, no label with more than its share."""
    sites: Counter[str] = Counter()
    images: Counter[tuple[str, str]] = Counter()
    kept: list[Pair] = []
    for pair in sorted(pairs, key=lambda pair: pair.key):
        image = (pair.site, pair.target.sha256)
        if images[image] >= limits.per_image:
            funnel.reject("pairs", "target used enough on its site")
        elif sites[pair.site] >= limits.per_site:
            funnel.reject("pairs", "site has enough pairs")
        else:
            images[image] += 1
            sites[pair.site] += 1
            kept.append(pair)
    return _within_label_share(kept, limits.label_share, funnel)


def _within_label_share(pairs: list[Pair], share: float, funnel: Funnel) -> list[Pair]:
    if len(pairs) < _BALANCE_FROM:
        return pairs
    most = int(share * len(pairs))
    labels: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        labels[pair.target.label] += 1
        if labels[pair.target.label] <= most:
            kept.append(pair)
    funnel.reject("pairs", "label has enough pairs", len(pairs) - len(kept))
    return kept
