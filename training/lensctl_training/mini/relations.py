"""What stands in a relation to each class of the image network, and how it is asked for.

A line of a file in `relations/` names classes, and the classes that such a classifier would give
photographs of their inside, outside, a part or the whole, with their shares, in the form of
`seen_as.py`:

    church | mosque: altar 45, vault 35

Language models wrote them from general knowledge, without sight of a picture; no line was fitted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from lensctl.models.interface import Floats
from lensctl.models.mini.relations import FILE, RELATIONS
from lensctl.models.mini.words import CLASSES, Words
from lensctl_training.mini.fusion import fit_choice
from lensctl_training.mini.instructions import Instructions
from lensctl_training.mini.photo_edits import wordings
from lensctl_training.mini.seen_as import read_shares

FOLDER = Path(__file__).parent / "relations"
STEPS = 255
"""Shares are kept in so many steps."""


def read_relation(name: str, classes: Sequence[str], folder: Path = FOLDER) -> Floats:
    """(1000, 1000): of each class the shares of its answers, zero where no line names it.

    Args:
        name: of the relation.
        classes: the 1000 names, see `seen_as.class_names`.
        folder: of the files.

    Raises:
        ValueError: a line names no class, or one of an earlier line, or no share.
    """
    path = folder / f"{name}.txt"
    place = {one.lower(): row for row, one in enumerate(classes)}
    found = np.zeros((CLASSES, CLASSES), dtype=np.float32)
    for things, shares in read_shares([path], place):
        for thing in things:
            if thing not in place or found[place[thing]].any():
                raise ValueError(f"{path}: {thing} is no class, or stands in two lines")
            found[place[thing]] = shares
    return found


def make_relations(
    words: Words, taught: Instructions, readings: Mapping[str, Floats]
) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of `lensctl.models.mini.relations`.

    Args:
        words: which read the wordings.
        taught: its texts and names ask for no relation, but for those that are wordings of one.
        readings: of these, see `pipeline.read`.
    """
    told = [wordings()["relations"][name]["train"] for name in RELATIONS]
    every = [text for texts in told for text in texts]
    ours = set(every)
    unrelated = np.array([text not in ours for text in taught.texts])
    others = np.concatenate([readings["sentences"][unrelated], readings["names"]])
    asked = np.repeat(np.arange(len(told)) + 1, [len(texts) for texts in told])
    weight, bias = fit_choice(
        np.concatenate([others, words.sentences(every)]),
        np.concatenate([np.zeros(len(others), dtype=np.int64), asked]),
    )
    tensors: dict[str, npt.NDArray[np.generic]] = {
        "choice.weight": weight.astype(np.float16),
        "choice.bias": bias.astype(np.float16),
    }
    for name in RELATIONS:
        shares = read_relation(name, taught.class_names)
        rows, answers = np.nonzero(shares)
        tensors[f"{name}.classes"] = rows.astype(np.int16)
        tensors[f"{name}.answers"] = answers.astype(np.int16)
        tensors[f"{name}.shares"] = np.rint(STEPS * shares[rows, answers]).astype(np.uint8)
    return tensors


def write_relations(tensors: dict[str, npt.NDArray[np.generic]], folder: Path) -> None:
    """Beside the other files of the model."""
    save_file(tensors, folder / FILE)
    (folder / FILE).chmod(0o644)
