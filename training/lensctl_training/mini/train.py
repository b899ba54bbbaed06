"""Train `mini`'s fusion from kept embeddings, on a CPU in minutes.

The loss is the contrastive one of MagicLens, with query negatives (Zhang et al. 2024, section 3.2);
a query may have several right answers, of which any will do.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm, trange

from lensctl.models.interface import Floats
from lensctl.models.mini.image_tower import LAYOUT, WeightFile
from lensctl.models.mini.info import DATA
from lensctl.models.mini.lens import FILE, Lens
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import FILE as TEXT
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import Words
from lensctl_training.mini.fusion import FusionHead, as_targets, fit_choice, fit_operators
from lensctl_training.mini.instructions import Batch, Instructions, Portions


@dataclass(frozen=True)
class TrainingConfig:
    """What a run is made of.

    Args:
        steps: optimiser steps.
        rate: peak learning rate, reached after a tenth of the steps, then down to zero.
        decay: weight decay, which pulls the residual back to the sum.
        noise: deviation added to every entry of a sentence vector, against learning by heart.
        temperature: of the loss.
        edit_temperature: of the loss of edits; a low one tells a photo's edits apart by light, a
            high one tells photos apart by look.
        kind_temperature: of the loss of kinds, which have many right answers; a low one makes the
            query flee its own photo, and its siblings with it.
        shunned: how many times each view of the query's own picture counts against another kind; a
            few make room for likeness, which would else bring these views first.
        beyond_weight: of the loss of what cannot be done, beside the other three.
        seed: of everything drawn.
        portions: what a batch holds.
    """

    steps: int = 1200
    rate: float = 3e-3
    decay: float = 0.05
    noise: float = 0.03
    temperature: float = 0.05
    edit_temperature: float = 0.02
    kind_temperature: float = 0.045
    shunned: float = 8.0
    beyond_weight: float = 0.15
    seed: int = 0
    portions: Portions = field(default_factory=Portions)


def contrastive_loss(
    queries: Tensor, gallery: Tensor, right: Tensor, temperature: float, counts: Tensor
) -> Tensor:
    """-log of the share of the right answers: (Q, D), (G, D), (Q, G) booleans -> ().

    `counts`, (Q, G), tells how many times each picture stands in the gallery.
    """
    logits = queries @ gallery.T / temperature + counts.log()
    answers = logits.masked_fill(~right, -torch.inf)
    return (logits.logsumexp(dim=1) - answers.logsumexp(dim=1)).mean()


@dataclass(frozen=True)
class Bank:
    """All that a run reads, described once: blocks of all pictures, readings of all texts.

    `names` are the sentences of names alone, which are never asked.
    """

    meaning: Tensor
    look: Tensor
    light: Tensor
    sentences: Tensor
    votes: Tensor
    names: Tensor

    def photos(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The blocks of some pictures."""
        return self.meaning[rows], self.look[rows], self.light[rows]


def make_bank(lens: Lens, drawn: Instructions, readings: Mapping[str, Floats]) -> Bank:
    """Describe all pictures; `readings` are what `pipeline.read` returns."""
    described = {**vars(lens.blocks(drawn.embeddings)), **readings}
    return Bank(
        **{name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in described.items()}
    )


def untrained(bank: Bank, drawn: Instructions) -> FusionHead:
    """Operators and choice fitted to all photos, edits and texts; gates at the vector sum."""
    light = bank.light[: drawn.photos * drawn.views].numpy()
    fitted = fit_operators(light.reshape(drawn.photos, drawn.views, -1))
    operators, biases = (np.concatenate([one, np.zeros_like(one[:1])]) for one in fitted)
    unasked = np.zeros(len(bank.names), dtype=np.int64)
    choice = fit_choice(
        torch.cat([bank.sentences, bank.names]).numpy(),
        np.concatenate([drawn.edits_asked(), unasked]),
    )
    return FusionHead((operators, biases), choice)


def train_fusion(bank: Bank, drawn: Instructions, config: TrainingConfig) -> FusionHead:
    """The trained head, the same for a seed on one machine."""
    torch.manual_seed(config.seed)
    head = untrained(bank, drawn)
    gates = [one for one in head.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(gates, config.rate, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.rate, total_steps=config.steps, pct_start=0.1
    )
    usual = config.temperature
    temperatures = config.edit_temperature, usual, config.kind_temperature, usual
    weights = torch.tensor([1.0, 1.0, 1.0, config.beyond_weight])
    for step in trange(config.steps, unit="step", disable=None):
        losses = torch.stack(
            [
                batch_loss(head, bank, batch, config, temperature)
                for batch, temperature in zip(
                    drawn.draw(config.portions), temperatures, strict=True
                )
            ]
        )
        loss = (losses * weights).sum() / weights.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == config.steps - 1:
            told = "  ".join(f"{one:.3f}" for one in losses.tolist())
            said = f"step {step:5d}  loss of edits, subject, kind, beyond: {told}"
            tqdm.write(said, file=sys.stderr)
    return head.eval()


def batch_loss(
    head: FusionHead, bank: Bank, batch: Batch, config: TrainingConfig, temperature: float
) -> Tensor:
    """Of one family."""
    sentences = bank.sentences[batch.texts]
    heard = sentences + config.noise * torch.randn(sentences.shape)
    queries = head(*bank.photos(batch.queries), heard, bank.votes[batch.texts])
    gallery = as_targets(*bank.photos(batch.gallery))
    right, counts = torch.from_numpy(batch.mask()), torch.from_numpy(batch.counts(config.shunned))
    return contrastive_loss(queries, gallery, right, temperature, counts)


def open_lens(folder: Path = DATA) -> tuple[Lens, Words]:
    """The maps that the fusion stands on, without a fusion."""
    maps = TensorFile(folder / FILE)
    words = Words(maps, TextTower(folder / TEXT))
    return Lens(maps, WeightFile(verified(IMAGE_WEIGHTS), DATA / LAYOUT), words), words


def write_fusion(head: FusionHead, out: Path) -> None:
    """float16: half the size, and cosines change by less than 1e-3."""
    arrays = {
        name: one.detach().numpy().astype(np.float16) for name, one in head.state_dict().items()
    }
    save_file(arrays, out)
    out.chmod(0o644)
