"""A data set as the frozen backbone sees it: embeddings, computed once and kept on disk.

With the backbone frozen, every step would compute the same embeddings again. Kept as three
matrices they make a step of the fusion a few milliseconds, and need 2 KB per vector at width 512.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from lensctl.models.interface import Floats
from lensctl.models.magiclens import MagicLens
from lensctl_training.batching import in_batches
from lensctl_training.data.batches import Example, collate

NAMES = ("queries", "targets", "texts")


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


def keep_embeddings(
    examples: Iterable[Example], model: MagicLens, folder: Path, batch: int = 64
) -> int:
    """Embed all examples into `folder`; it holds the matrices once all are there.

    Args:
        examples: read once, in order.
        model: its backbone, on any device.
        folder: made where it is missing.
        batch: examples at a time.

    Returns:
        How many there were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    count = 0
    files = {name: (folder / f"{name}.raw").open("wb") for name in NAMES}
    for group in in_batches(examples, batch):
        made = collate(group, model.context_length).to(device)
        with torch.no_grad():
            images = model.encode_image(torch.cat([made.queries, made.targets]))
            queries, targets = images.split([len(made.queries), len(made.targets)])
            texts = model.encode_text(made.ids)
        for name, rows in zip(NAMES, (made.serve(queries), targets, texts), strict=True):
            rows.float().cpu().numpy().tofile(files[name])
        count += len(group)
    for file in files.values():
        file.close()
    for name in NAMES:
        _as_npy(folder / f"{name}.raw", folder / f"{name}.npy", model.embedding_dim)
    return count


def _as_npy(raw: Path, path: Path, width: int) -> None:
    rows: Floats = np.fromfile(raw, dtype=np.float32).reshape(-1, width)
    np.save(path, rows)
    raw.unlink()
