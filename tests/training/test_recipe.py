import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from lensctl.errors import UsageError
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.model import build_model
from lensctl_training.recipe import (
    _LEAST,
    Recipe,
    _numbers,
    load_recipe,
    recipe_from_dict,
    shipped_recipes,
)

HARD = "data.hard_negatives=2"
NAMES = ["coca-base", "coca-large", "magiclens-base", "magiclens-large", "scenes", "smoke"]


def test_all_recipes_are_shipped():
    assert shipped_recipes() == sorted(
        [*NAMES, "mini"]
    )  # its own kind: tests/mini/test_pipeline.py


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_loads_builds_and_states_its_needs(name):
    recipe = load_recipe(name, ["model.start="])
    assert recipe.name == name
    with torch.device("meta"):
        model = build_model(recipe.model)
    assert sum(p.numel() for p in model.parameters()) > 1e6
    assert all(word in recipe.about for word in ("ata", "core" if name in NAMES[4:] else "Money"))


def test_published_recipes_are_the_papers():
    for name in ("magiclens-base", "magiclens-large"):
        recipe = load_recipe(name)
        assert recipe.batch.size == 2048 and recipe.loss.temperature == 0.07
        assert recipe.loss.query_negatives and recipe.optimiser.name == "adafactor"
        assert (recipe.optimiser.rate, recipe.optimiser.backbone_rate) == (2e-5, 2e-6)
        assert recipe.optimiser.steps == 50_000


def test_overrides_replace_single_values():
    recipe = load_recipe(
        "smoke", ["seed=7", "model.fusion=sum", "optimiser.rate=1", "data.train=x/y"]
    )
    assert (recipe.seed, recipe.model.fusion, recipe.optimiser.rate) == (7, "sum", 1.0)
    assert recipe.data.train == "x/y"


def test_the_recipe_that_a_run_leaves_is_a_recipe(tmp_path):
    recipe = load_recipe("magiclens-base", ["model.start="])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert load_recipe(str(tmp_path / "recipe.json")) == recipe


def test_a_recipe_survives_its_plain_values():
    recipe = load_recipe("scenes")
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimiser.rte=1", "recipe.optimiser has no 'rte'"),
        ("model.fusion=max", "must be one of attention, sum"),
        ("batch.size=1.5", "must be int, not 1.5"),
        ("batch.size=true", "must be int, not True"),
        ("batch.size=1", "at least 2"),
        ("batch.size=130", "multiple of data.scenes_per_group"),
        ("optimiser.warmup=999999", "within the steps"),
        ("saving.keep_best=0", "it is exported"),
        # Settings that would turn training into nonsense without a word.
        ("optimiser.clip_norm=-1", "optimiser.clip_norm must be at least 0, not -1"),
        ("optimiser.weight_decay=-1", "optimiser.weight_decay must be at least 0"),
        ("optimiser.rate=nan", "optimiser.rate must be a finite number"),
        ("optimiser.rate=inf", "optimiser.rate must be a finite number"),
        ("optimiser.clip_norm=nan", "optimiser.clip_norm must be a finite number"),
        ("optimiser.beta1=2", "optimiser.beta1 must be below 1"),
        ("optimiser.beta2=-0.1", "optimiser.beta2 must be at least 0"),
        ("data.hard_negatives=-1", "data.hard_negatives must be at least 0"),
        ("model.freeze_backbone=true", "model.freeze_backbone needs model.start"),
        # Settings that ended in a traceback.
        ("loss.temperature=2", "loss.temperature must be above zero and within"),
        ("loss.temperature=nan", "loss.temperature must be a finite number"),
        ("loss.lowest_temperature=0", "loss.temperature must be above zero and within"),
        ("data.workers=-1", "data.workers must be at least 0"),
        ("data.scenes=-1", "data.scenes must be at least 0"),
        ("data.scenes=3", "data.scenes must fill a batch"),
        ("data.held_out_scenes=0", "data.held_out_scenes must be at least 1"),
        ("data.max_bad=-1", "data.max_bad must be at least 0"),
        ("machine.device=foo", "machine.device must be auto, cpu, cuda or mps, not 'foo'"),
        ("machine.device=meta", "machine.device must be"),
        ("machine.threads=-2", "machine.threads must be at least 0"),
        ("machine.threads=99999999999", "machine.threads must be below"),
        ("seed=-1", "seed must be at least 0"),
        ("seed=99999999999999999999", "seed must be below"),
        ("max_bad_losses=-1", "max_bad_losses must be at least 0"),
        ("batch", "write it as table.name=value"),
        ("name.x=1", "name is not a table"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(override, said):
    with pytest.raises(UsageError) as caught:
        load_recipe("smoke", [override])
    assert said in caught.value.why and "docs/recipe.md" in caught.value.next_step


def test_a_loss_without_negatives_is_refused_in_whatever_way_they_are_turned_off():
    """Hard negatives that the data does not have are none: the loss would be 0 at every step."""
    off = ["loss.query_negatives=false", "loss.in_batch_negatives=false"]
    for rest in ([], ["loss.hard_negatives=false"], ["loss.hard_negatives=false", HARD]):
        with pytest.raises(UsageError) as caught:
            load_recipe("smoke", [*off, *rest])
        assert "loss.query_negatives" in caught.value.why
    assert not load_recipe("smoke", [*off, HARD]).loss.in_batch_negatives


def test_every_number_has_bounds_or_a_reason_of_its_own():
    """A number that is added to a recipe is also added to its checks."""
    own = {"model.layers", "model.heads", "batch.size", "optimiser.rate", "optimiser.warmup"}
    own |= {
        "saving.keep_best",
        *(f"loss.{kind}temperature" for kind in ("", "lowest_", "highest_")),
    }
    assert {name for name, _ in _numbers(Recipe("x"))} == _LEAST.keys() | own


def test_an_unknown_recipe_and_broken_toml(tmp_path):
    with pytest.raises(UsageError, match="no recipe 'huge'") as caught:
        load_recipe("huge")
    assert "magiclens-base" in caught.value.why
    (tmp_path / "x.toml").write_text("a = [")
    with pytest.raises(UsageError):
        load_recipe(str(tmp_path / "x.toml"))
    (tmp_path / "latin.toml").write_bytes('about = "Gr\u00fc\u00dfe"'.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load_recipe(str(tmp_path / "latin.toml"))
    assert "latin.toml is no UTF-8 text" in caught.value.why


IN_PROSE = {"name": "the file's name", "licence": "unknown", "model.preprocessing": "squash to 224"}
"""Defaults that docs/recipe.md tells in words."""


def documented() -> dict[str, str]:
    """`table.name` -> the default that docs/recipe.md gives, for every row of every section."""
    text = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    rows = {}
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        table = "" if title == "Top level" else f"{title}."
        for cell, default in re.findall(r"^\| (`.+?) \| (.+?) \| ", body, flags=re.MULTILINE):
            names = re.findall(r"`(\w+)`", cell)
            defaults = default.split(", ") if "," in default else [default] * len(names)
            new = {f"{table}{name}": one for name, one in zip(names, defaults, strict=True)}
            assert not new.keys() & rows.keys()
            rows |= new
    return rows


def defaults_of(kind: type, table: str = "") -> dict[str, object]:
    """`table.name` -> default, of a recipe and its tables."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        name = f"{table}{field.name}"
        if dataclasses.is_dataclass(field.default_factory):
            found |= defaults_of(field.default_factory, f"{name}.")
        else:
            found[name] = field.default
    return found


def as_told(value: object) -> str:
    """A default that is no number, as the page writes it."""
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    return str(value).lower()


def test_every_setting_is_documented_in_its_table_with_its_default():
    told, defaults = documented(), defaults_of(Recipe)
    assert told.keys() == defaults.keys()
    assert told | IN_PROSE == told
    numbers = {name for name, value in defaults.items() if type(value) in (int, float)}
    for name in defaults.keys() - IN_PROSE.keys():
        if name in numbers:
            assert float(told[name]) == defaults[name], name
        else:
            assert told[name] == as_told(defaults[name]), name


def test_defaults_told_in_words_are_true():
    assert Recipe("x").licence.startswith(IN_PROSE["licence"])
    pixels = Preprocessing(**Recipe("x").model.preprocessing)
    assert f"{pixels.mode} to {pixels.size}" == IN_PROSE["model.preprocessing"]
