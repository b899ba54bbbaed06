"""Train `mini`'s fusion from kept embeddings, on a CPU in minutes.

    python -m lensctl_training.mini.train --views VIEWS.npy --out fusion.safetensors [--seed 0]

VIEWS.npy comes from `python -m lensctl_training.mini.views`. The loss is MagicLens's, with query
negatives (Zhang et al. 2024, section 3.2), plus one near-miss per triplet.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

from lensctl.models.interface import Floats
from lensctl.models.mini.image_tower import LAYOUT, WeightFile
from lensctl.models.mini.info import DATA
from lensctl.models.mini.lens import FILE, Lens
from lensctl.models.mini.packages import (
    IMAGE_WEIGHTS,
    TEXT_VOCABULARY,
    TEXT_WEIGHTS,
    verified,
)
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import Words
from lensctl_training.mini.fusion import FusionHead
from lensctl_training.mini.instructions import Instructions, encode_bank


@dataclass(frozen=True)
class TrainingConfig:
    """What a run is made of.

    Args:
        steps: optimiser steps.
        batch: triplets a step.
        rate: peak learning rate, reached after a tenth of the steps, then down to zero.
        decay: weight decay, which pulls the residual back to the sum.
        noise: deviation added to every entry of a sentence vector, against learning by heart.
        temperature: of the loss.
        seed: of everything drawn.
    """

    steps: int = 1200
    batch: int = 192
    rate: float = 2e-3
    decay: float = 0.05
    noise: float = 0.02
    temperature: float = 0.05
    seed: int = 0


def contrastive_loss(
    queries: Tensor, targets: Tensor, own: Tensor, decoys: Tensor, temperature: float
) -> Tensor:
    """MagicLens's loss: all targets, all query photos as targets, and all decoys are negatives."""
    gallery = torch.cat([targets, own, decoys])
    logits = queries @ gallery.T / temperature
    return functional.cross_entropy(logits, torch.arange(len(queries)))


def train_mini(out: Path, views: Floats, config: TrainingConfig | None = None) -> FusionHead:
    """Train the fusion and write it.

    Args:
        out: the safetensors file to write, float16.
        views: (P, V, E) embeddings of photos and their edits.
        config: None for the shipped model's.
    """
    config = config or TrainingConfig()
    torch.manual_seed(config.seed)
    lens, words = open_lens()
    drawn = Instructions(views, lens.classifier, config.seed)
    sentences, votes = map(torch.from_numpy, encode_bank(words, drawn.texts))
    head = FusionHead(lens.share())
    optimiser = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.rate, total_steps=config.steps, pct_start=0.1
    )
    gallery = torch.from_numpy(lens.make_targets(drawn.embeddings))
    for step in range(config.steps):
        rows = drawn.draw(config.batch)
        own, targets, decoys = (gallery[one] for one in (rows.queries, rows.targets, rows.decoys))
        noise = config.noise * torch.randn(len(own), sentences.shape[1])
        queries = head(own, sentences[rows.texts] + noise, votes[rows.texts])
        loss = contrastive_loss(queries, targets, own, decoys, config.temperature)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == config.steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}", file=sys.stderr, flush=True)
    write_fusion(head, out)
    return head


def open_lens() -> tuple[Lens, Words]:
    """The maps that the fusion stands on, without a fusion."""
    maps = TensorFile(DATA / FILE)
    words = Words(maps, TextTower(verified(TEXT_WEIGHTS), verified(TEXT_VOCABULARY)))
    return Lens(maps, WeightFile(verified(IMAGE_WEIGHTS), DATA / LAYOUT), words), words


def write_fusion(head: FusionHead, out: Path) -> None:
    """float16: half the size, and cosines change by less than 1e-4."""
    arrays = {
        name: one.detach().numpy().astype(np.float16) for name, one in head.state_dict().items()
    }
    save_file(arrays, out)
    out.chmod(0o644)


def main() -> None:
    """Train once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps)
    arguments = parser.parse_args()
    views = np.load(arguments.views).astype(np.float32)
    train_mini(arguments.out, views, TrainingConfig(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
