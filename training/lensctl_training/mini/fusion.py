"""The trained part of `mini`'s lens, in torch; `lensctl.models.mini.fusion` runs it in numpy.

A residual over the vector sum: gates scale each block of the sum by what the words ask for, and a
small network adds to look and light what no scaling can (colours gone, turned over). Letting it add
to the meaning, too, made words less exact on the validation set. All starts at zero, so that
training begins from the sum; a plain head trained on little data is worse than the sum.
"""

import torch
from torch import Tensor, nn

from lensctl.models.mini.fusion import GATES, HIDDEN, SPLITS, WIDTHS


class FusionHead(nn.Module):
    """(targets, sentence vectors, class votes) -> queries of unit length."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        gate = nn.Linear(GATES, len(SPLITS) + 1)
        self.gates = nn.Sequential(nn.Linear(WIDTHS["sentence"], GATES), nn.ReLU(), gate)
        self.enter = nn.Linear(WIDTHS["sentence"] + WIDTHS["look"] + WIDTHS["light"], HIDDEN)
        self.leave = nn.Linear(HIDDEN, WIDTHS["look"] + WIDTHS["light"])
        for layer in (gate, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, targets: Tensor, sentences: Tensor, votes: Tensor) -> Tensor:
        """(N, D), (N, 384), (N, 1000) -> (N, D)."""
        gates = self.gates(sentences).exp()
        meaning, look, light = targets.split(SPLITS, dim=1)
        seen = torch.cat([sentences, look, light], dim=1)
        added = self.leave(torch.relu(self.enter(seen)))
        spoken = gates[:, :1] * meaning + gates[:, 3:] * self.share * votes
        kept = torch.cat([gates[:, 1:2] * look, gates[:, 2:3] * light], dim=1)
        return nn.functional.normalize(torch.cat([spoken, kept + added], dim=1), dim=1)
