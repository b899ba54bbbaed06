"""Recipes: a TOML file that says everything about a training run, read whole and checked at once.

Every table of the file is a dataclass here; a name that is not a field is an error, so that a
misspelt setting never goes unnoticed. `--set table.name=value` replaces single values.
"""

import dataclasses
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from lensctl.errors import UsageError
from lensctl_training.loss import LossOptions

T = TypeVar("T")

QueryFrom = Literal["both", "image", "text"]

_LEAST = {
    "seed": 0,
    "max_bad_losses": 0,
    "data.scenes": 0,
    "data.scenes_per_group": 1,
    "data.held_out_scenes": 1,
    "data.workers": 0,
    "data.shuffle_buffer": 1,
    "data.hard_negatives": 0,
    "data.max_bad": 0,
    "data.max_validation": 1,
    "batch.chunk": 0,
    "optimiser.backbone_rate": 0,
    "optimiser.weight_decay": 0,
    "optimiser.beta1": 0,
    "optimiser.beta2": 0,
    "optimiser.clip_norm": 0,
    "optimiser.steps": 1,
    "machine.threads": 0,
    "validation.every": 1,
    "validation.patience": 0,
    "validation.examples": 0,
    "saving.every": 1,
}
"""The smallest value of every setting that has one and no reason of its own."""

_BELOW = {"seed": 2**63, "optimiser.beta1": 1, "optimiser.beta2": 1, "machine.threads": 2**15}
"""What a setting must stay below; larger ones overflow in torch, or never forget a gradient."""

_DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:[0-9]{1,3})?")


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained.

    Args:
        start: a model's name or folder to start from; empty: random weights of the `backbone`.
        backbone: an open_clip name, or a table with an open_clip model configuration.
        preprocessing: fields of lensctl.models.preprocessing.Preprocessing.
        fusion: "attention" (MagicLens) or "sum".
        layers: of the fusion's encoder.
        heads: of the fusion.
        mask_padding: hide padding from the text tower, as the published model does.
        freeze_backbone: train the fusion alone, on embeddings that are computed once.
        query_from: "both", or for a baseline the query's "image" or "text" alone.
    """

    start: str = ""
    backbone: str | dict[str, Any] = "ViT-B-16-quickgelu"
    preprocessing: dict[str, Any] = field(default_factory=dict)
    fusion: Literal["attention", "sum"] = "attention"
    layers: int = 4
    heads: int = 8
    mask_padding: bool = True
    freeze_backbone: bool = False
    query_from: QueryFrom = "both"


@dataclass(frozen=True)
class DataRecipe:
    """What it is trained on.

    Args:
        train: folder of shards, or a .jsonl file; the command line's DATA replaces it.
        validation: the same for held-out triplets; empty: none.
        scenes: number of synthetic triplets to render instead of reading `train`.
        scenes_per_group: edits of one scene that stand side by side in a batch.
        held_out_scenes: queries of the synthetic validation set.
        workers: processes that read and decode, for every training process; at most.
        shuffle_buffer: triplets among which the order of a stream is mixed.
        hard_negatives: images per triplet that the loss adds; triplets with fewer are skipped.
        max_bad: bad examples put up with, in all processes together, before the run stops.
        max_validation: held-out triplets that are used at most.
    """

    train: str = ""
    validation: str = ""
    scenes: int = 0
    scenes_per_group: int = 4
    held_out_scenes: int = 300
    workers: int = 0
    shuffle_buffer: int = 5000
    hard_negatives: int = 0
    max_bad: int = 100
    max_validation: int = 2000


@dataclass(frozen=True)
class LossRecipe:
    """The loss; see lensctl_training.loss."""

    query_negatives: bool = True
    in_batch_negatives: bool = True
    hard_negatives: bool = True
    temperature: float = 0.07
    lowest_temperature: float = 0.01
    highest_temperature: float = 1.0
    learn_temperature: bool = True

    @property
    def options(self) -> LossOptions:
        """The negatives that take part."""
        return LossOptions(self.query_negatives, self.in_batch_negatives, self.hard_negatives)


@dataclass(frozen=True)
class BatchRecipe:
    """How large a step is and how it fits into memory.

    Args:
        size: triplets of all processes together: the negatives of a query.
        chunk: triplets encoded at a time with GradCache; 0: the whole batch at once.
        checkpoint_activations: recompute activations instead; may be combined with `chunk`.
    """

    size: int = 2048
    chunk: int = 0
    checkpoint_activations: bool = False


@dataclass(frozen=True)
class OptimiserRecipe:
    """How parameters move.

    Args:
        name: "adafactor" (the paper's) or "adamw".
        rate: learning rate of new parameters (the fusion, the temperature).
        backbone_rate: of the backbone's.
        scale_by_parameter: whether Adafactor's rates are relative to the size of a parameter's
            values, as in its paper; else they are absolute, as AdamW's.
        weight_decay: of matrices; vectors, norms, embeddings and the temperature have none.
        beta1: AdamW's; Adafactor as published has no momentum.
        beta2: AdamW's; Adafactor's rises with the steps.
        clip_norm: bound on the norm of all gradients together; 0: none.
        warmup: steps over which the rate rises from zero.
        decay: "constant", "linear" or "cosine", to zero at the last step.
        steps: of the whole run.
    """

    name: Literal["adafactor", "adamw"] = "adafactor"
    rate: float = 2e-5
    backbone_rate: float = 2e-6
    scale_by_parameter: bool = False
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0
    warmup: int = 500
    decay: Literal["constant", "linear", "cosine"] = "constant"
    steps: int = 50_000


@dataclass(frozen=True)
class MachineRecipe:
    """How it is computed.

    Args:
        device: "auto", "cpu", "cuda" or "mps"; "cuda:1" is one of several, for a single process.
        precision: "fp32", or "bf16": autocast, with weights and their updates in fp32.
        compile: torch.compile the image tower; pays on a GPU after some minutes.
        sharding: "ddp" copies the model to every process, "fsdp" splits it over them.
        threads: CPU threads of a process; 0: torch's choice.
    """

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    sharding: Literal["ddp", "fsdp"] = "ddp"
    threads: int = 0


@dataclass(frozen=True)
class ValidationRecipe:
    """When the model is tried, and what that decides.

    Args:
        every: steps between two validations; the last step always has one.
        metric: that chooses the best checkpoint, larger is better.
        patience: validations without a better metric before the run ends early; 0: never.
        cirr: folder of the CIRR data set, tried as well; empty: not.
        circo: folder of the CIRCO data set.
        examples: queries whose results the report shows.
    """

    every: int = 1000
    metric: str = "recall@1"
    patience: int = 0
    cirr: str = ""
    circo: str = ""
    examples: int = 12


@dataclass(frozen=True)
class SavingRecipe:
    """Checkpoints.

    Args:
        every: steps between two checkpoints; one is also made at the end and on SIGTERM.
        keep_best: checkpoints kept by the validation metric, beside the last one.
    """

    every: int = 1000
    keep_best: int = 2


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Args:
        name: of the recipe; the exported model is called so.
        about: what it is for: data, hours and money it needs.
        licence: of the trained weights, as the data and the start allow.
        seed: of everything random.
        max_bad_losses: steps in a row whose loss is not finite before the run stops.
    """

    name: str
    about: str = ""
    licence: str = "unknown: depends on the training data"
    seed: int = 0
    max_bad_losses: int = 5
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    batch: BatchRecipe = field(default_factory=BatchRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    machine: MachineRecipe = field(default_factory=MachineRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    saving: SavingRecipe = field(default_factory=SavingRecipe)

    def __post_init__(self) -> None:
        for name, value in _numbers(self):
            _refuse_out_of_range(name, value)
        for wrong, why in _contradictions(self):
            if wrong:
                raise _wrong(why)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and the report."""
        return asdict(self)


def _numbers(table: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """(`table.name`, value) of every number in a recipe; true and false are none."""
    for setting in dataclasses.fields(table):
        name, value = f"{place}{setting.name}", getattr(table, setting.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _refuse_out_of_range(name: str, value: float) -> None:
    # An int too large for a float is finite all the same.
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(f"{name} must be a finite number, not {value}")
    if name in _LEAST and value < _LEAST[name]:
        raise _wrong(f"{name} must be at least {_LEAST[name]}, not {value}")
    if name in _BELOW and value >= _BELOW[name]:
        raise _wrong(f"{name} must be below {_BELOW[name]}, not {value}")


def _contradictions(recipe: Recipe) -> list[tuple[bool, str]]:
    batch, optimiser, data, loss = recipe.batch, recipe.optimiser, recipe.data, recipe.loss
    device = recipe.machine.device
    hard_negatives = loss.hard_negatives and data.hard_negatives > 0
    return [
        (batch.size < 2, "batch.size must be at least 2: other triplets are the negatives"),
        (not 0 <= optimiser.warmup <= optimiser.steps, "optimiser.warmup must be within the steps"),
        (optimiser.rate <= 0, "optimiser.rate must be above zero"),
        (
            bool(data.scenes) and batch.size % data.scenes_per_group != 0,
            "batch.size must be a multiple of data.scenes_per_group",
        ),
        (
            0 < data.scenes < batch.size,
            f"data.scenes must fill a batch: {data.scenes} of them do not fill {batch.size}",
        ),
        (
            not 0 < loss.lowest_temperature <= loss.temperature <= loss.highest_temperature,
            "loss.temperature must be above zero and within loss.lowest_temperature and "
            "loss.highest_temperature",
        ),
        (
            not (loss.query_negatives or loss.in_batch_negatives or hard_negatives),
            "there is nothing to tell a target from: set loss.query_negatives or "
            "loss.in_batch_negatives, or loss.hard_negatives with data.hard_negatives above zero",
        ),
        (
            not _DEVICE.fullmatch(device),
            f"machine.device must be auto, cpu, cuda or mps, not {device!r}",
        ),
        (
            recipe.model.freeze_backbone and not recipe.model.start,
            "model.freeze_backbone needs model.start: a random backbone is not worth freezing",
        ),
        (
            recipe.model.freeze_backbone and recipe.model.fusion == "sum",
            "a sum fusion over a frozen backbone has nothing to train",
        ),
        (
            recipe.model.freeze_backbone and recipe.data.hard_negatives > 0,
            "hard negatives are not kept among cached embeddings",
        ),
        (recipe.saving.keep_best < 1, "saving.keep_best must be at least 1: it is exported"),
    ]


def shipped_recipes() -> list[str]:
    """The names of the recipes in the package."""
    folder = resources.files("lensctl_training") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a file; with `table.name=value` overrides.

    Raises:
        UsageError: there is no such recipe, or something in it is wrong.
    """
    return recipe_from_dict(read_recipe(name_or_path, overrides))


def read_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe says, with overrides, its names and types unchecked.

    Raises:
        UsageError: there is no such recipe, it is no TOML or JSON, or an override is misspelt.
    """
    values = _parse(_read_text(name_or_path), name_or_path)
    values.setdefault("name", Path(name_or_path).stem)
    for override in overrides:
        _override(values, override)
    return values


def _read_text(name_or_path: str) -> str:
    path = Path(name_or_path)
    if name_or_path in shipped_recipes():
        shipped = resources.files("lensctl_training") / "recipes" / f"{name_or_path}.toml"
        return shipped.read_text(encoding="utf-8")
    if not path.is_file():
        raise UsageError(
            f"there is no recipe {name_or_path!r}",
            why=f"it is neither a file nor one of {', '.join(shipped_recipes())}",
            next_step="name one of these, or a .toml file",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(f"{name_or_path} is no UTF-8 text: {error}") from error


def _parse(text: str, name: str) -> dict[str, Any]:
    """TOML, or the JSON of the `recipe.json` that a run leaves."""
    try:
        if text.lstrip().startswith("{"):
            return dict(json.loads(text))
        return tomllib.loads(text)
    except ValueError as error:  # also of a number with more digits than Python reads
        raise _wrong(f"{name}: {error}") from error


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Inverse of `Recipe.to_dict`. Raises UsageError on unknown names and wrong types."""
    return build_table(Recipe, values, "recipe")


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, written = override.partition("=")
    *tables, last = name.strip().split(".")
    if not equals or not last:
        raise _wrong(f"--set {override}: write it as table.name=value")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise _wrong(f"--set {override}: {table} is not a table")
    values[last] = _as_value(written.strip())


def _as_value(written: str) -> Any:
    """A TOML value, or else the text itself, so that words and paths need no quotes."""
    try:
        return tomllib.loads(f"x = {written}")["x"]
    except ValueError:  # also of a number with more digits than Python reads
        return written


def build_table(kind: type[T], values: Mapping[str, Any], place: str) -> T:
    """A dataclass from a table of a recipe.

    Raises:
        UsageError: a name is unknown, a type is wrong, or the dataclass refuses a value.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise _wrong(f"{place} has no {unknown[0]!r}; it has {', '.join(hints)}")
    built = {name: _check(hints[name], v, f"{place}.{name}") for name, v in values.items()}
    try:
        return kind(**built)
    except (TypeError, ValueError) as error:
        raise _wrong(f"{place}: {error}") from error


def _check(hint: Any, value: Any, place: str) -> Any:
    """The value, if it is of the hinted type; tables become their dataclasses."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _wrong(f"{place} must be a table")
        return build_table(typing.cast(type, hint), value, place)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise _wrong(f"{place} must be one of {', '.join(typing.get_args(hint))}")
        return value
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(typing.get_origin(kind) or kind for kind in kinds)
    if tuple in plain and isinstance(value, list):
        kind = typing.get_args(kinds[plain.index(tuple)])[0]
        return tuple(_check(kind, one, f"{place}[{row}]") for row, one in enumerate(value))
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _wrong(f"{place} is too large a number") from error
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        raise _wrong(f"{place} must be {' or '.join(k.__name__ for k in plain)}, not {value!r}")
    return value


def _wrong(why: str) -> UsageError:
    return UsageError(
        "the recipe is wrong", why=why, next_step="see docs/recipe.md for every setting"
    )
