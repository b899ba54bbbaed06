"""`mini` asked for the inside, the outside, a part or the whole of what a picture shows.

    python benchmarks/mini_relations.py RUN

There are no real photographs for this: RUN is a folder of `lensctl train mini`, and the pictures
are imagined from its photos, four of each of the network's 1000 classes; a query's own picture is
left out of its results. What is right was written by a language model without sight of the lists
that are shipped (`benchmarks/relations`): the pictures of all classes that it gives a tenth or
more. Where it says that the inside looks like the thing itself (three tenths or more), nothing is
asked. So were the wordings, by which nothing was chosen.
"""

import argparse
from pathlib import Path

import numpy as np
from mini_composed import Evaluation, Query, recalls

from lensctl.models.mini import open_mini
from lensctl.models.mini.fusion import FILE, Fusion
from lensctl.models.mini.info import DATA
from lensctl.models.mini.relations import FILE as RELATIONS_FILE
from lensctl.models.mini.relations import RELATIONS, Relations
from lensctl.models.mini.tensors import TensorFile
from lensctl_training.mini.instructions import PER_CLASS, imagine
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.pipeline import VIEWS
from lensctl_training.mini.seen_as import class_names, read_seen_as, read_shares
from lensctl_training.mini.word_maps import make_tree
from lensctl_training.mini.wordnet import load_nouns

OPINION = Path(__file__).parent / "relations"
RIGHT, ITSELF = 0.1, 0.3
SEED = 7


def read_wordings() -> dict[str, list[str]]:
    """Those kept back, by their relation."""
    found: dict[str, list[str]] = {}
    for line in (OPINION / "wordings.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            texts = found.setdefault(line.strip("[]"), [])
        elif line:
            texts.append(line)
    return found


def main() -> None:
    """Print how wordings are read, then R@1/R@10 of every method, a line for each relation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    with np.load(parser.parse_args().run / VIEWS) as kept:
        views = kept["views"].astype(np.float32)
    side = open_mini().query_side()
    assert side.words is not None
    nouns = load_nouns()
    classes = class_names([nouns[one] for one in make_tree(nouns).classes], nouns)
    relations = Relations(TensorFile(DATA / RELATIONS_FILE))
    wordings = read_wordings()
    for number, name in enumerate(RELATIONS, 1):
        asked = relations.asked(side.words.sentences(wordings[name]))
        print(
            f"{name}: {(asked == number).sum()} of {len(asked)} wordings are read as such, "
            f"{((asked != number) & (asked > 0)).sum()} as another"
        )
    edits = [text for edit in EDITS.values() for text in (*edit.validation, *edit.held_out)]
    names = read_seen_as(classes).names
    for what, texts in (("edits, of wordings kept back", edits), ("names", names)):
        taken = (relations.asked(side.words.sentences(texts)) > 0).sum()
        print(f"{what}: {taken} of {len(texts)} are taken for a relation")

    pictures = imagine(views, side.lens.classifier, np.random.default_rng(SEED))[:, 0]
    targets = side.make_targets(pictures)
    fusion = Fusion(TensorFile(DATA / FILE))
    print(f"gallery {len(pictures)}, R@1/R@10 in percent")
    for name in RELATIONS:
        queries = ask(name, wordings[name], classes)
        one = Evaluation(side, pictures, queries)
        rows = one.baselines() | {"lens without relations": one.fusion(fusion)}
        asked_of = pictures[[query.row for query in queries]]
        own = side.make_queries(asked_of, [query.words for query in queries])
        rows["mini"] = recalls(own @ targets.T, queries)
        found = "  ".join(f"{what} {row['R@1']}/{row['R@10']}" for what, row in rows.items())
        print(f"{name} ({len(queries)} queries): {found}")


def ask(relation: str, wordings: list[str], classes: list[str]) -> list[Query]:
    """Queries of all pictures of the classes that the second opinion knows."""
    place = {name.lower(): row for row, name in enumerate(classes)}
    shown = np.repeat(np.arange(len(classes)), PER_CLASS)
    queries: list[Query] = []
    for things, shares in read_shares([OPINION / f"{relation}.txt"], place):
        own = place[things[0]]
        if shares[own] >= ITSELF:
            continue
        right = set(np.flatnonzero(shares[shown] >= RIGHT).tolist())
        for row in np.flatnonzero(shown == own).tolist():
            words = wordings[len(queries) % len(wordings)]
            queries.append(Query(row, words, frozenset(right - {row})))
    return queries


if __name__ == "__main__":
    main()
