"""`lensctl train` of `mini`'s lens: from packages to the files that are shipped, stage by stage.

views -> drawn -> text tower -> maps -> readings -> relations -> training -> curves. What a stage
made lies in OUT; a run that was stopped goes on behind the last finished stage.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lensctl.errors import UsageError
from lensctl.models.interface import Floats
from lensctl.models.mini.fusion import FILE as FUSION
from lensctl.models.mini.lens import FILE as MAPS
from lensctl.models.mini.text_tower import FILE as TEXT
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import Words
from lensctl.whole import whole
from lensctl_training.batching import in_batches
from lensctl_training.mini.build import make_maps, write_card, write_maps
from lensctl_training.mini.calibrate import score_curves
from lensctl_training.mini.distil import DistilConfig, distil
from lensctl_training.mini.drawn import Drawings, embed_drawn
from lensctl_training.mini.instructions import Instructions
from lensctl_training.mini.relations import make_relations, write_relations
from lensctl_training.mini.sources import require_sources
from lensctl_training.mini.train import (
    TrainingConfig,
    make_bank,
    open_lens,
    train_fusion,
    write_fusion,
)
from lensctl_training.mini.views import embed_views
from lensctl_training.recipe import build_table

RECIPE = "recipe.json"
VIEWS, DRAWN, READINGS = "views.npz", "drawn.npz", "readings.npz"
TEXTS_AT_ONCE = 200


@dataclass(frozen=True)
class LensRecipe:
    """A recipe of `mini`'s lens.

    Args:
        name: of the recipe.
        trains: "mini", by which such a recipe is known.
        about: what it is for, and what it needs.
        licence: of the trained weights.
        threads: of torch; the weights are the same only for the same number.
        text: the run that makes the text tower.
        training: the run that makes the fusion.
    """

    name: str
    trains: str
    about: str = ""
    licence: str = ""
    threads: int = 1
    text: DistilConfig = field(default_factory=DistilConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def lens_recipe(values: Mapping[str, Any]) -> LensRecipe:
    """From a recipe file's values.

    Raises:
        UsageError: something in it is wrong.
    """
    return build_table(LensRecipe, values, "recipe")


def train_lens(recipe: LensRecipe, out: Path, *, resume: bool = False) -> Path:
    """Run all stages that are still to be done -> the folder with text tower, maps, fusion, card.

    Raises:
        UsageError: `out` holds the run of another recipe, or a run and `resume` is not asked for.
        DependencyError: packages with photos, drawings, words or weights are missing; looked for
            before anything is made.
    """
    model = out / "model"
    require_sources(
        views=not (out / VIEWS).is_file(),
        drawn=not (out / DRAWN).is_file(),
        text=not (model / TEXT).is_file(),
    )
    _take_place(recipe, out, resume=resume)
    torch.set_num_threads(recipe.threads)
    model.mkdir(exist_ok=True)
    views = _kept(out / VIEWS, lambda: {"views": embed_views()})["views"]
    drawings = Drawings(**_kept(out / DRAWN, lambda: vars(embed_drawn())))
    if not (model / TEXT).is_file():
        print(f"{TEXT} ...", file=sys.stderr)
        distil(recipe.text, model / TEXT, out)
    if not (model / MAPS).is_file():
        write_maps(make_maps(views, drawings, TextTower(model / TEXT)), model)
    lens, words = open_lens(model)
    taught = Instructions(views, drawings, lens.classifier, recipe.training.seed)
    readings = _kept(out / READINGS, lambda: read(words, taught.texts, taught.names))
    write_relations(make_relations(words, taught, readings), model)
    bank = make_bank(lens, taught, readings)
    head = train_fusion(bank, taught, recipe.training)
    write_fusion(head, model / FUSION)
    write_card(score_curves(head, bank, taught), model)
    return model


def read(words: Words, texts: list[str], names: list[str]) -> dict[str, Floats]:
    """All texts -> `sentences` (T, 384) and `votes` (T, 1011); names -> `names` (N, 384)."""
    parts = [words.read(some) for some in _at_once(texts)]
    sentences, votes = (np.concatenate(one) for one in zip(*parts, strict=True))
    named = np.concatenate([words.sentences(some) for some in _at_once(names)])
    return {"sentences": sentences, "votes": votes, "names": named}


def _at_once(texts: list[str]) -> Iterator[list[str]]:
    with tqdm(total=len(texts), unit="text", disable=None) as bar:
        for some in in_batches(texts, TEXTS_AT_ONCE):
            yield some
            bar.update(len(some))


def _kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
    """A stage's arrays: read where they were kept, else made and kept, floats in half precision."""
    if not path.is_file():
        print(f"{path.name} ...", file=sys.stderr)
        arrays: dict[str, Any] = {name: _half(one) for name, one in make().items()}
        with whole(path) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)
    with np.load(path) as kept:
        return {
            name: one.astype(np.float32) if one.dtype == np.float16 else one
            for name, one in kept.items()
        }


def _half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16) if array.dtype == np.float32 else array


def _take_place(recipe: LensRecipe, out: Path, *, resume: bool) -> None:
    """Claim the folder for this recipe."""
    written = json.dumps(dataclasses.asdict(recipe), indent=1) + "\n"
    path = out / RECIPE
    if path.is_file():
        if path.read_text(encoding="utf-8") != written:
            raise UsageError(
                f"{out} holds the run of another recipe",
                why=f"{path} differs from the recipe asked for",
                next_step="choose another --out",
            )
        if not resume:
            raise UsageError(
                f"{out} already holds this run",
                next_step="add --resume to go on with it, or choose another --out",
            )
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(written, encoding="utf-8")
