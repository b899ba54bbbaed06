"""How well words find photographs: `mini`, or any model, on the Tux Paint stamps.

    python benchmarks/mini_stamps.py FOLDER [--model mini] [--json]

FOLDER holds the unpacked Debian package `tuxpaint-stamps-default` (or is its stamps folder). Each
stamp `name.png` has a description in the first line of `name.txt`. The query is that description,
the gallery all photographs among the stamps.

A stamp counts as a photograph when it is a PNG in no folder named `cartoon` or `symbols`, and among
its opaque pixels there are at least 300 colours, and at least 0.15 colours for each pixel: drawings
repeat few colours, cameras do not. In version 2022.06.04-1 these are 333.

Two recalls are printed. `own` asks for the very photograph whose description was the query;
`same` accepts any with an equal description ("A flower." describes several). Ties count against.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lensctl.models.interface import Floats, IndexSide
from lensctl.models.registry import open_model
from lensctl.photos.decode import decode

LEAST_COLOURS = 300
LEAST_COLOURS_PER_PIXEL = 0.15
OPAQUE = 200
DRAWN = {"cartoon", "symbols"}
RANKS = (1, 5, 10)
BATCH = 16


@dataclass(frozen=True)
class Stamp:
    """A photograph and the words that describe it."""

    path: Path
    words: str


def find_photographs(folder: Path, *, every: bool = False) -> list[Stamp]:
    """All stamps below the folder that are photographs, or every one, in the order of paths."""
    stamps = []
    for path in sorted(folder.rglob("*.png")):
        described = path.with_suffix(".txt")
        if described.is_file() and (every or is_photograph(path, folder)):
            words = described.read_text(encoding="utf-8", errors="replace").splitlines()[0]
            stamps.append(Stamp(path, words.strip()))
    return stamps


def is_photograph(path: Path, folder: Path) -> bool:
    """Whether the stamp looks like the work of a camera; see the rule above."""
    if DRAWN & set(path.relative_to(folder).parts):
        return False
    pixels = np.asarray(Image.open(path).convert("RGBA"), dtype=np.int64)
    shown = pixels[pixels[..., 3] > OPAQUE]
    colours = len(np.unique(shown[:, 0] << 16 | shown[:, 1] << 8 | shown[:, 2]))
    return colours >= LEAST_COLOURS and colours > LEAST_COLOURS_PER_PIXEL * len(shown)


def embed(side: IndexSide, paths: list[Path]) -> Floats:
    """(N, E) embeddings of the files."""
    rows = []
    for start in range(0, len(paths), BATCH):
        images = [
            decode(path, at_least=side.info.decoded_side).image
            for path in paths[start : start + BATCH]
        ]
        rows.append(side.encode_images(np.stack([side.preprocess(image) for image in images])))
    return np.concatenate(rows)


def recalls(scores: Floats, words: list[str], *, same: bool) -> dict[str, float]:
    """(N, N) scores of query i and photograph j -> R@1/5/10 in percent."""
    right = np.eye(len(words), dtype=bool)
    if same:
        right = np.array([[one == other for other in words] for one in words])
    best = np.where(right, scores, -np.inf).max(axis=1)
    ranks = ((scores >= best[:, None]) & ~right).sum(axis=1)
    return {f"R@{k}": round(float(100 * (ranks < k).mean()), 1) for k in RANKS}


def main() -> None:
    """Print the table or the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    stamps = find_photographs(arguments.folder)
    model = open_model(arguments.model)
    query, index = model.query_side(), model.index_side()
    keys = query.text_keys(embed(index, [stamp.path for stamp in stamps]))
    words = [stamp.words for stamp in stamps]
    scores = query.encode_texts(words) @ keys.T
    found: dict[str, object] = {"model": model.info.name, "photographs": len(stamps)}
    found |= {
        "own": recalls(scores, words, same=False),
        "same": recalls(scores, words, same=True),
        "chance": {f"R@{k}": round(100 * k / max(len(stamps), 1), 1) for k in RANKS},
    }
    print(json.dumps(found, indent=1) if arguments.json else _table(found))


def _table(found: dict[str, object]) -> str:
    lines = [f"{found['model']}, {found['photographs']} photographs"]
    for kind in ("own", "same", "chance"):
        row = found[kind]
        assert isinstance(row, dict)
        lines.append(
            f"{kind:8}" + "".join(f"{name:>6} {value:5.1f}" for name, value in row.items())
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
