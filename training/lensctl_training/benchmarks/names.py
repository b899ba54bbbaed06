"""What models and methods are called in tables, and as folders: each by a name of its own."""

from collections import Counter
from collections.abc import Sequence

from lensctl.errors import UsageError
from lensctl.models.interface import ModelInfo

SHORT = 8
"""Digits of a fingerprint that tell models of one name apart."""


def model_names(infos: Sequence[ModelInfo]) -> list[str]:
    """A name for each model; models of one name also carry the beginning of a fingerprint.

    Every run of a recipe exports a model of the recipe's name: a column would hide the other.

    Raises:
        UsageError: a model was given twice.
    """
    identities = [(i.name, i.encoder_fingerprint, i.lens_fingerprint) for i in infos]
    twice = [name for (name, _, _), count in Counter(identities).items() if count > 1]
    if twice:
        raise UsageError(
            f"the model {twice[0]} was given twice",
            why="its name and its weights are the same both times",
            next_step="give every model once",
        )
    shared = Counter(info.name for info in infos)
    by_lens = Counter((info.name, info.lens_fingerprint) for info in infos)
    return [
        info.name if shared[info.name] == 1 else f"{info.name} ({_telling(info, by_lens)})"
        for info in infos
    ]


def _telling(info: ModelInfo, by_lens: "Counter[tuple[str, str]]") -> str:
    """The lens's fingerprint, with the encoder's before it where that alone is not enough."""
    lens = info.lens_fingerprint[:SHORT]
    only = by_lens[info.name, info.lens_fingerprint] == 1
    return lens if only else f"{info.encoder_fingerprint[:SHORT]}-{lens}"


def compared_pairs(labels: Sequence[str], models: Sequence[str]) -> list[tuple[int, int]]:
    """Which methods are compared: a model with its own baselines, and with later models.

    Args:
        labels: of the methods, in order.
        models: for each method the model whose vectors it scores; a model's own label for itself.

    Returns:
        (place, place of the one that it is compared with).
    """
    return [
        (one, other)
        for one in range(len(labels))
        for other in range(one + 1, len(labels))
        if labels[one] == models[one] and models[other] in (labels[one], labels[other])
    ]


def folder_names(labels: Sequence[str]) -> list[str]:
    """A name for each label that is a file name, different from the others on every system."""
    taken: set[str] = set()
    names = []
    for label in labels:
        plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in label).strip(".-")
        plain = plain or "model"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
