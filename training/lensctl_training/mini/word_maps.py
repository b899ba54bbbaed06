"""The maps from words to classes: WordNet, the classes' texts and what is seen as what, embedded.

Timm lists which synsets ImageNet's 21,841 pictured categories are; WordNet gives their texts and
ancestors. Synsets that share nothing but abstract ancestors with every class are left out: they
would vote for nothing in particular.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import CLASSES, INT8_SCALE, bare
from lensctl.models.vectors import unit
from lensctl_training.mini.seen_as import SeenAs, class_names, read_seen_as
from lensctl_training.mini.wordnet import Synset, ancestors, first_senses, load_nouns

LEAST_LIKENESS = 0.5
"""Lin's likeness to the nearest class, below which a synset is left out."""
BASIS = 256
BROAD, BROAD_SHARE = 5, 0.5
"""Classes below a name in WordNet from which they all get a share, and that share."""
SEEN_EXPONENT = 0.5
"""Of the shares, as the keys of photos are damped probabilities."""
SHARE_SCALE = 255.0
UNSHARED = "no ancestor"
"""A node above no class, which fills up the rows of ancestors."""


def timm_list(name: str) -> list[str]:
    """Offsets of the synsets in one of timm's lists."""
    import timm.data

    path = Path(timm.data.__file__).parent / "_info" / f"{name}.txt"
    return [line.removeprefix("n") for line in path.read_text(encoding="utf-8").split()]


@dataclass(frozen=True)
class Tree:
    """The part of WordNet above the pictured synsets.

    Args:
        classes: offsets of the 1000 classes, in the network's order.
        synsets: offsets of the pictured synsets that are related to a class.
        nodes: offsets of all ancestors of classes, the classes included.
        information: of every synset seen, in nats.
        above: of every pictured synset and class, itself and its ancestors.
    """

    classes: list[str]
    synsets: list[str]
    nodes: list[str]
    information: dict[str, float]
    above: dict[str, list[str]]


def make_tree(nouns: dict[str, Synset]) -> Tree:
    """Counts, ancestors, and the choice of synsets."""
    classes = timm_list("imagenet_synsets")
    listed = [offset for offset in timm_list("imagenet22k_synsets") if offset in nouns]
    pictured = list(dict.fromkeys([*listed, *classes]))
    above = {one: list(ancestors(nouns, one)) for one in pictured}
    counts = Counter(node for one in pictured for node in above[one])
    information = {node: -math.log((count + 1) / len(pictured)) for node, count in counts.items()}
    nodes = sorted({node for one in classes for node in above[one]})
    shared = set(nodes)
    kept = [
        one for one in pictured if _nearest(one, above[one], shared, information) > LEAST_LIKENESS
    ]
    return Tree(classes, kept, [*nodes, UNSHARED], information, above)


def _nearest(one: str, above: list[str], shared: set[str], information: dict[str, float]) -> float:
    """About Lin's likeness to the nearest class: the most informed shared ancestor's part."""
    best = max((information[node] for node in above if node in shared), default=0.0)
    return best / max(information[one], 1e-9)


def tree_maps(tree: Tree) -> dict[str, np.ndarray]:
    """Nodes, the classes below them, and the nodes above every synset."""
    place = {node: row for row, node in enumerate(tree.nodes)}
    below = np.zeros((len(tree.nodes), CLASSES), dtype=np.uint8)
    for column, one in enumerate(tree.classes):
        below[[place[node] for node in tree.above[one]], column] = 1
    rows = [[place[node] for node in tree.above[one] if node in place] for one in tree.synsets]
    width = max(map(len, rows))
    filled = [row + [place[UNSHARED]] * (width - len(row)) for row in rows]
    known = tree.information
    return {
        "node_classes": np.packbits(below, axis=1),
        "node_information": np.array([known.get(node, 0.0) for node in tree.nodes], np.float16),
        "synset_nodes": np.array(filled, dtype=np.int16),
        "synset_information": np.array([known[one] for one in tree.synsets], np.float16),
        "class_information": np.array([known[one] for one in tree.classes], np.float16),
    }


def text_maps(tree: Tree, nouns: dict[str, Synset], text: TextTower) -> dict[str, np.ndarray]:
    """The texts of synsets and classes, centred at the mean of the classes' texts."""
    classes = [nouns[one] for one in tree.classes]
    glossed = text.encode([gloss_form(one) for one in classes])
    listed = text.encode([", ".join(one.lemmas) for one in classes])
    named = text.encode([one.lemmas[0] for one in classes])
    whole = unit(glossed + listed + named)
    mean = whole.mean(axis=0)
    lemmas = [(lemma, row) for row, one in enumerate(classes) for lemma in one.lemmas]
    basis, synsets = _synset_vectors([nouns[one] for one in tree.synsets], text, mean)
    return {
        "text_mean": mean.astype(np.float16),
        "class_texts": unit(whole - mean).astype(np.float16),
        "class_glosses": unit(glossed - mean).astype(np.float16),
        "lemmas": _int8(unit(text.encode([lemma for lemma, _ in lemmas]) - mean)),
        "lemma_classes": np.array([row for _, row in lemmas], dtype=np.int16),
        "synset_basis": basis.astype(np.float16),
        "synsets": synsets,
    }


def seen_maps(
    tree: Tree, nouns: dict[str, Synset], text: TextTower, mean: Floats, basis: Floats
) -> dict[str, np.ndarray]:
    """Names of things, placed as the synsets are, and the classes that they are seen as."""
    seen = read_seen_as(class_names([nouns[one] for one in tree.classes], nouns))
    lines, line_of = np.unique(_broadened(seen, tree), axis=0, return_inverse=True)
    codes = np.round(lines**SEEN_EXPONENT * SHARE_SCALE).astype(np.uint8)
    told, classes = np.nonzero(codes)
    names = unit(text.encode([bare(name) for name in seen.names]) - mean)
    return {
        "seen_names": _int8(unit(names @ basis)),
        "seen_lines": line_of.reshape(-1).astype(np.int16),
        "seen_starts": np.searchsorted(told, np.arange(len(lines) + 1)),
        "seen_classes": classes.astype(np.int16),
        "seen_shares": codes[told, classes],
    }


def _broadened(seen: SeenAs, tree: Tree) -> Floats:
    """A line names a few of the dogs; what has many classes below it in WordNet means them all."""
    senses, classes = first_senses(), {one: row for row, one in enumerate(tree.classes)}
    below: dict[str, list[int]] = {}
    for one, row in classes.items():
        for node in tree.above[one]:
            below.setdefault(node, []).append(row)
    shares = seen.shares.copy()
    for row, name in enumerate(seen.names):
        kinds = below.get(senses.get(name, ""), [])
        if len(kinds) >= BROAD:
            shares[row] *= 1 - BROAD_SHARE
            shares[row, kinds] += BROAD_SHARE / len(kinds)
    return shares


def gloss_form(synset: Synset) -> str:
    """A name and what it means."""
    return f"{synset.lemmas[0]}: {synset.gloss}"


def _synset_vectors(
    synsets: list[Synset], text: TextTower, mean: Floats
) -> tuple[Floats, np.ndarray]:
    """Names and glosses in the directions that tell synsets apart: the basis, int8 vectors."""
    names = unit(text.encode([one.lemmas[0] for one in synsets]) - mean)
    glosses = unit(text.encode([gloss_form(one) for one in synsets]) - mean)
    vectors = unit(names + glosses)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    basis = np.ascontiguousarray(directions[:, ::-1][:, :BASIS])
    return basis, _int8(unit(vectors @ basis))


def _int8(vectors: Floats) -> np.ndarray:
    return np.clip(np.round(vectors * INT8_SCALE), -127, 127).astype(np.int8)


def make_word_maps(text: TextTower) -> dict[str, np.ndarray]:
    """All tensors of the words' side, by name."""
    nouns = load_nouns()
    tree = make_tree(nouns)
    texts = text_maps(tree, nouns, text)
    mean, basis = (texts[name].astype(np.float32) for name in ("text_mean", "synset_basis"))
    return tree_maps(tree) | texts | seen_maps(tree, nouns, text, mean, basis)
