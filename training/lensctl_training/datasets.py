"""From a recipe's data table to a source of batches and a held-out set."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import DataError, LensctlError, UsageError
from lensctl.models.weights import encoder_fingerprint
from lensctl_training.data.batches import BadExampleError, Example, Examples, GlobalOrder
from lensctl_training.data.embedded import (
    EmbeddedExamples,
    are_kept,
    keep_embeddings,
    list_files,
    passed_over,
)
from lensctl_training.data.held_out import HeldOut, hold_out
from lensctl_training.data.jsonl import JsonlExamples, read_jsonl_triplets, read_rows
from lensctl_training.data.shards import find_shards, read_triplets
from lensctl_training.data.source import (
    MapSource,
    Source,
    StreamSource,
    is_jsonl,
    refuse_too_little_shared_memory,
)
from lensctl_training.data.stream import ShardStream, decode_triplet
from lensctl_training.data.triplet import Problems, Triplet
from lensctl_training.distributed import Processes
from lensctl_training.model import TripletEncoder
from lensctl_training.recipe import Recipe


def open_source(
    recipe: Recipe, encoder: TripletEncoder, group: Processes, out: Path, problems: Problems
) -> Source:
    """The training batches of this process. The recipe has passed `require_one_set`.

    Raises:
        DataError: there is no data, or too little.
        TrainingError: there is too little shared memory for the workers' batches.
    """
    if recipe.model.freeze_backbone:
        return _map_source(_embedded(recipe, encoder, group, out, problems), recipe, encoder, group)
    source = _pixel_source(recipe, encoder, group, problems)
    # After the data, which may be missing: that is told first.
    side, images = encoder.model.config.preprocessing.size, 2 + recipe.data.hard_negatives
    batch = recipe.batch.size // group.world * images * 3 * side**2 * 4
    refuse_too_little_shared_memory(batch, recipe.data.workers, group.on_this_machine)
    return source


def _pixel_source(
    recipe: Recipe, encoder: TripletEncoder, group: Processes, problems: Problems
) -> Source:
    """Batches of pixels in float32, whatever the data set is."""
    examples = _random_access(recipe, encoder, problems)
    if examples is not None:
        return _map_source(examples, recipe, encoder, group)
    model = encoder.model
    stream = ShardStream(
        find_shards(Path(recipe.data.train)),
        model.config.preprocessing,
        model.context_length,
        recipe.batch.size // group.world,
        seed=recipe.seed,
        shuffle_buffer=recipe.data.shuffle_buffer,
        negatives=recipe.data.hard_negatives,
        rank=group.rank,
        world=group.world,
    )
    return StreamSource(stream, recipe.data.workers, _pinned(group))


def _pinned(group: Processes) -> bool:
    return group.device.type == "cuda"


def require_one_set(recipe: Recipe, processes: int) -> None:
    """Refuse at once what would be refused when a large model has been built.

    Raises:
        UsageError: the recipe names no data set or two, or the batch cannot be shared among the
            processes.
    """
    if not recipe.data.train and not recipe.data.scenes:
        raise UsageError(
            f"the recipe {recipe.name} needs a data set",
            why="it names none in data.train, and none was given",
            next_step=f"lensctl train {recipe.name} DATA --out DIR, DATA being shards or a .jsonl",
        )
    if recipe.data.train and recipe.data.scenes:
        raise UsageError(
            f"the recipe {recipe.name} names two data sets",
            why=f"data.train is {recipe.data.train}, and data.scenes renders "
            f"{recipe.data.scenes} triplets",
            next_step="keep one: add --set data.scenes=0, or leave data.train and DATA out",
        )
    if recipe.batch.size % processes:
        raise UsageError(
            f"a batch of {recipe.batch.size} cannot be shared by {processes} processes",
            next_step="choose batch.size as a multiple of the number of processes",
        )


def open_held_out(recipe: Recipe, encoder: TripletEncoder, problems: Problems) -> HeldOut | None:
    """The held-out triplets of a recipe, or None where it names none.

    Every image is decoded once, so that a bad one is met here and not by the first validation.

    Raises:
        DataError: none of them can be used.
    """
    if recipe.data.scenes:
        from lensctl_training.scenes.examples import render_held_out

        return render_held_out("val", recipe.data.held_out_scenes, recipe.seed)
    if not recipe.data.validation:
        return None
    met = Problems()
    decoded = _decoded(
        _all_triplets(Path(recipe.data.validation), met), encoder, met, negatives=True
    )
    found = hold_out((triplet for triplet, _ in decoded), recipe.data.max_validation)
    if not found.queries:
        raise DataError(
            f"{recipe.data.validation} holds no usable triplet",
            why="; ".join(met.lines()),
            next_step=f"run `lensctl train check {recipe.data.validation}`",
        )
    for reason, where in met.listed():
        problems.add(reason, f"held-out {where}")
    return found


def _random_access(recipe: Recipe, encoder: TripletEncoder, problems: Problems) -> Examples | None:
    """Scenes or a JSONL file; None for shards."""
    preprocessing, data = encoder.model.config.preprocessing, recipe.data
    if data.scenes:
        from lensctl_training.scenes.examples import render_training_set

        return render_training_set(data.scenes, data.scenes_per_group, recipe.seed, preprocessing)
    path = Path(recipe.data.train)
    if is_jsonl(path):
        return JsonlExamples(read_rows(path, problems), preprocessing, data.hard_negatives)
    return None


def _map_source(
    examples: Examples, recipe: Recipe, encoder: TripletEncoder, group: Processes
) -> MapSource:
    try:
        order = GlobalOrder(len(examples), examples.group_size, recipe.batch.size, recipe.seed)
    except ValueError as error:
        raise DataError("the data set is too small for the batch", why=str(error)) from error
    context = encoder.model.context_length
    workers, pinned = recipe.data.workers, _pinned(group)
    return MapSource(examples, context, order, group.rank, group.world, workers, pinned)


def _embedded(
    recipe: Recipe, encoder: TripletEncoder, group: Processes, out: Path, problems: Problems
) -> EmbeddedExamples:
    """Kept embeddings, made by the first process where there are none of this data and backbone."""
    folder = out / "embeddings"
    refused: LensctlError | None = None
    if group.first:
        try:
            _keep(recipe, encoder, folder, problems)
        except LensctlError as error:
            refused = error
    group.refuse_together(refused)
    return EmbeddedExamples(folder, recipe.data.scenes_per_group if recipe.data.scenes else 1)


def _keep(recipe: Recipe, encoder: TripletEncoder, folder: Path, problems: Problems) -> None:
    """Embed the data set into the folder, unless that has been done; bad examples count anew."""
    made_of = _made_of(recipe, encoder)
    if are_kept(folder, made_of):
        for reason, where in passed_over(folder):
            problems.add(reason, where)
        return
    examples = _random_access(recipe, encoder, problems)
    triplets = _all_triplets(Path(recipe.data.train), problems) if examples is None else ()
    everything = (
        (example for _, example in _decoded(triplets, encoder, problems))
        if examples is None
        else _loaded(examples, problems)
    )
    encoder.eval()
    kept = keep_embeddings(everything, encoder.model, folder, made_of, problems)
    encoder.train()
    if not kept:
        raise DataError(
            "the data set has no usable triplets",
            why="; ".join(problems.lines()),
            next_step="run `lensctl train check DATA`",
        )


def _made_of(recipe: Recipe, encoder: TripletEncoder) -> dict[str, Any]:
    """What kept embeddings depend on, as plain values."""
    model, data = encoder.model, recipe.data
    made_of: dict[str, Any] = {"encoder": encoder_fingerprint(model.config, model.state_dict())}
    if data.scenes:
        return made_of | {"scenes": [data.scenes, data.scenes_per_group, recipe.seed]}
    return made_of | {"data": list_files(_data_files(Path(recipe.data.train)))}


def _data_files(path: Path) -> Iterator[Path]:
    """The shards, or a JSONL file and the images of every line that can be used."""
    if not is_jsonl(path):
        yield from find_shards(path)
        return
    yield path
    for row in read_rows(path, Problems()):
        yield from (row.query, row.target)


def _all_triplets(path: Path, problems: Problems) -> Iterator[Triplet]:
    return read_jsonl_triplets(path, problems) if is_jsonl(path) else read_triplets(path, problems)


def _decoded(
    triplets: Iterable[Triplet],
    encoder: TripletEncoder,
    problems: Problems,
    *,
    negatives: bool = False,
) -> Iterator[tuple[Triplet, Example]]:
    """The triplets whose images, if asked for also the negatives, can be read; and what is read."""
    for triplet in triplets:
        number = len(triplet.negatives) if negatives else 0
        try:
            example = decode_triplet(triplet, encoder.model.config.preprocessing, number)
        except BadExampleError as bad:
            problems.add(bad.reason, bad.where)
            continue
        yield triplet, example


def _loaded(examples: Examples, problems: Problems) -> Iterator[Example]:
    for index in range(len(examples)):
        try:
            yield examples.load(index)
        except BadExampleError as bad:
            problems.add(bad.reason, bad.where)
