"""A data set as the frozen backbone sees it: embeddings, computed once and kept on disk.

With the backbone frozen, every step would compute the same embeddings again. Kept as three
matrices they make a step of the fusion a few milliseconds, and need 2 KB per vector at width 512.
Beside them stands what they were made of: of other data or another backbone they are made anew.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lensctl.models.interface import Floats
from lensctl.models.magiclens import MagicLens
from lensctl.whole import whole_folder
from lensctl_training.batching import in_batches
from lensctl_training.data.batches import Example, collate
from lensctl_training.data.triplet import Problems

NAMES = ("queries", "targets", "texts")
KEY, BAD = "made_of.json", "passed_over.json"


class EmbeddedExamples:
    """Random access to kept embeddings; implements `batches.Examples`."""

    def __init__(self, folder: Path, group_size: int = 1) -> None:
        self.group_size = group_size
        self.queries, self.targets, self.texts = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES
        )

    def __len__(self) -> int:
        return len(self.queries)

    def load(self, index: int) -> Example:
        """One example, never bad."""
        return Example(
            np.array(self.queries[index]),
            np.array(self.targets[index]),
            "",
            text=np.array(self.texts[index]),
        )


def list_files(paths: Iterable[Path]) -> dict[str, Any]:
    """What tells a set of files from another or a changed one: a hash of sizes and times.

    A missing file counts as such; the files' place does not count, a data set may be moved.
    """
    digest, number = hashlib.sha256(), 0
    for path in paths:
        number += 1
        try:
            found = path.stat()
            said = [path.name, found.st_size, found.st_mtime_ns]
        except OSError:
            said = [path.name, None, None]
        digest.update(json.dumps(said).encode())
    return {"files": number, "listing": digest.hexdigest()}


def are_kept(folder: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether the folder holds whole matrices made of just this."""
    try:
        if json.loads((folder / KEY).read_text(encoding="utf-8")) != made_of:
            return False
        kept = EmbeddedExamples(folder)
        passed_over(folder)
    except (OSError, ValueError, EOFError):
        # What numpy and json raise on a file that is missing, cut short, or something else.
        return False
    return len(kept.queries) == len(kept.targets) == len(kept.texts)


def passed_over(folder: Path) -> list[tuple[str, str]]:
    """(reason, where) of the examples that kept embeddings are without; older ones do not say."""
    try:
        return [(one[0], one[1]) for one in json.loads((folder / BAD).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def keep_embeddings(
    examples: Iterable[Example],
    model: MagicLens,
    folder: Path,
    made_of: Mapping[str, Any],
    problems: Problems,
    batch: int = 64,
) -> int:
    """Embed all examples into `folder`, which replaces any such folder once all are there.

    Args:
        examples: read once, in order.
        model: its backbone, on any device.
        folder: made; what is written until the end lies in a folder beside it.
        made_of: plain values that tell these embeddings from others; kept for `are_kept`.
        problems: what was passed over, of these examples alone; kept for `passed_over`.
        batch: examples at a time.

    Returns:
        How many there were.
    """
    with whole_folder(folder) as unfinished:
        count = _embed(examples, model, unfinished, batch)
        (unfinished / BAD).write_text(json.dumps(problems.listed()), encoding="utf-8")
        (unfinished / KEY).write_text(json.dumps(made_of), encoding="utf-8")
    return count


def _embed(examples: Iterable[Example], model: MagicLens, folder: Path, batch: int) -> int:
    device = next(model.parameters()).device
    count = 0
    with ExitStack() as opened:
        files = [opened.enter_context((folder / f"{name}.raw").open("wb")) for name in NAMES]
        for group in in_batches(examples, batch):
            made = collate(group, model.context_length).to(device)
            with torch.no_grad():
                images = model.encode_image(torch.cat([made.queries, made.targets]))
                queries, targets = images.split([len(made.queries), len(made.targets)])
                texts = model.encode_text(made.ids)
            for file, rows in zip(files, (made.serve(queries), targets, texts), strict=True):
                rows.float().cpu().numpy().tofile(file)
            count += len(group)
    for name in NAMES:
        _as_npy(folder / f"{name}.raw", folder / f"{name}.npy", model.embedding_dim)
    return count


def _as_npy(raw: Path, path: Path, width: int) -> None:
    rows: Floats = np.fromfile(raw, dtype=np.float32).reshape(-1, width)
    np.save(path, rows)
    raw.unlink()
