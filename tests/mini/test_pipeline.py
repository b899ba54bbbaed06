"""The recipe of the lens, and its stages."""

import numpy as np
import pytest

from lensctl.errors import UsageError
from lensctl_training.mini import pipeline
from lensctl_training.mini.pipeline import LensRecipe, lens_recipe, train_lens
from lensctl_training.recipe import read_recipe


def test_the_shipped_recipe_loads():
    recipe = lens_recipe(read_recipe("mini", ["training.seed=2"]))
    assert recipe.training.seed == 2
    assert recipe.training.portions.photos > 1


def test_a_misspelt_setting_is_refused():
    with pytest.raises(UsageError) as caught:
        lens_recipe(read_recipe("mini", ["training.stepps=2"]))
    assert "stepps" in caught.value.why


@pytest.fixture
def stages(monkeypatch):
    """Stages that only note that they ran; the last one breaks off the run."""
    ran = []

    def views():
        ran.append("views")
        return np.ones((2, 3), np.float32)

    def drawings():
        ran.append("drawings")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "embed_views", views)
    monkeypatch.setattr(pipeline, "embed_drawn", drawings)
    return ran


def test_a_stopped_run_goes_on_behind_its_last_stage(stages, tmp_path):
    recipe = LensRecipe("mine", "mini")
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train_lens(recipe, tmp_path, resume=resume)
    assert stages == ["views", "drawings", "drawings"]


def test_a_folder_in_use_is_not_taken_unasked(stages, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_lens(LensRecipe("mine", "mini"), tmp_path)
    with pytest.raises(UsageError, match="already holds this run"):
        train_lens(LensRecipe("mine", "mini"), tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        train_lens(LensRecipe("other", "mini"), tmp_path, resume=True)
