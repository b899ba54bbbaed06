"""Whether a run of `lensctl train mini` gives the lens that ships: tensors, and what they answer.

    python benchmarks/mini_again.py RUN

Prints for every tensor whether it is equal to the bit, or the largest difference beside its largest
value; then the least cosine between the queries of both lenses, for the run's photos
(RUN/views.npz), each with an instruction in turn, from all that are known.
"""

import argparse
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini.fusion import FILE as FUSION
from lensctl.models.mini.fusion import Fusion
from lensctl.models.mini.image_tower import LAYOUT, WeightFile
from lensctl.models.mini.info import DATA
from lensctl.models.mini.lens import FILE as MAPS
from lensctl.models.mini.lens import Lens
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified
from lensctl.models.mini.relations import FILE as RELATIONS
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import FILE as TEXT
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import Words
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.pipeline import VIEWS


def compare(name: str, shipped: TensorFile, made: TensorFile) -> None:
    """One line a tensor."""
    for tensor in shipped.names():
        one, other = (np.asarray(file[tensor], np.float64) for file in (shipped, made))
        if one.shape != other.shape:
            found = f"shapes {one.shape} and {other.shape}"
        elif np.array_equal(one, other):
            found = "equal"
        else:
            found = f"{np.abs(one - other).max():.2g} apart, of {np.abs(one).max():.2g}"
        print(f"{name} {tensor}: {found}")


def queries(folder: Path, embeddings: Floats, instructions: list[str]) -> Floats:
    """(N, 1363) by the lens of a folder."""
    maps = TensorFile(folder / MAPS)
    words = Words(maps, TextTower(folder / TEXT))
    weights = WeightFile(verified(IMAGE_WEIGHTS), DATA / LAYOUT)
    lens = Lens(maps, weights, words, Fusion(TensorFile(folder / FUSION)))
    return lens.make_queries(embeddings, instructions)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    run: Path = parser.parse_args().run
    for name in (TEXT, MAPS, FUSION, RELATIONS):
        compare(name, TensorFile(DATA / name), TensorFile(run / "model" / name))
    with np.load(run / VIEWS) as kept:
        photos = kept["views"][:, 0].astype(np.float32)
    known = [words for edit in EDITS.values() for words in (*edit.wordings, *edit.held_out)]
    asked = [known[row % len(known)] for row in range(len(photos))]
    both = [queries(folder, photos, asked) for folder in (DATA, run / "model")]
    print(f"{len(photos)} queries: least cosine {(both[0] * both[1]).sum(axis=1).min():.6f}")


if __name__ == "__main__":
    main()
