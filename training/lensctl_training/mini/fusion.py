"""The trained part of `mini`'s lens, in torch; `lensctl.models.mini.fusion` runs it in numpy.

The gates start at the vector sum, so that training begins from there; a plain head trained on
little data is worse than the sum.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from lensctl.models.interface import Floats
from lensctl.models.mini.fusion import BLOCK_WEIGHTS, FAINT, GATES, NAMED
from lensctl.models.mini.words import CLASSES

SENTENCE = 384
LISTENERS = 64
SEEN = 2
"""What the gates see of the photo: its likeness to the words, and how sure its class is."""
START = {"meaning": 1.0, "look": 1.0, "light": 1.0, "words": 1.5}
"""The gates before training."""
RIDGE = 1.0
CHOICE_DECAY = 5e-5
"""Of the squared weights of the choice, in units of the mean loss."""
SHARPNESS = 2.0
"""Of the choice: what so strongly decayed weights say is too soft."""
UNCHANGED = 3.0
"""Weight of all texts that ask for no edit, in units of those that ask for one edit."""


class FusionHead(nn.Module):
    """Blocks and words -> queries of unit length.

    Operators and the choice among them are fitted beforehand, in closed form or nearly so; what is
    trained with a gallery are the gates.

    Args:
        operators: (K, L, L) and (K, L); see `fit_operators`.
        choice: (1 + K, 384) and (1 + K,); see `fit_choice`.
    """

    operators: Tensor
    operator_biases: Tensor

    def __init__(self, operators: tuple[Floats, Floats], choice: tuple[Floats, Floats]) -> None:
        super().__init__()
        choices = len(choice[0])
        self.register_buffer("operators", torch.from_numpy(operators[0]))
        self.register_buffer("operator_biases", torch.from_numpy(operators[1]))
        self.choice = nn.Linear(SENTENCE, choices).requires_grad_(False)
        self.listen = nn.Linear(SENTENCE + SEEN + choices, LISTENERS)
        self.gates = nn.Linear(LISTENERS, len(GATES))
        nn.init.zeros_(self.gates.weight)
        with torch.no_grad():
            self.choice.weight.copy_(torch.from_numpy(choice[0]))
            self.choice.bias.copy_(torch.from_numpy(choice[1]))
            self.gates.bias.copy_(torch.tensor([START[name] for name in GATES]))

    def forward(
        self, meaning: Tensor, look: Tensor, light: Tensor, sentences: Tensor, votes: Tensor
    ) -> Tensor:
        """The blocks, (N, 384) sentence vectors, (N, 1011) votes -> (N, D)."""
        choice = self.choice(sentences).softmax(dim=1)
        likeness = (meaning * votes).sum(dim=1, keepdim=True)
        sureness = meaning[:, :CLASSES].amax(dim=1, keepdim=True)
        heard = torch.cat([sentences, likeness, sureness, choice], dim=1)
        opened = self.gates(torch.relu(self.listen(heard)))
        edited = choice[:, 1:-1].sum(dim=1, keepdim=True)
        opened = torch.where(torch.from_numpy(NAMED), opened * (1 - edited), opened)
        if not self.training:
            # A gate that is shut while training never learns to open.
            least = FAINT * opened[:, [GATES.index("words")]].abs()
            opened = torch.where(opened.abs() < least, 0, opened)
        of_meaning, of_look, of_light, of_words = opened.split(1, dim=1)
        change = torch.einsum("nd,kde->nke", light, self.operators) + self.operator_biases
        changed = light + (choice[:, 1:, None] * change).sum(dim=1)
        return join(
            of_meaning * meaning + of_words * votes,
            of_look * look,
            of_light * functional.normalize(changed, dim=1),
        )


def join(*blocks: Tensor) -> Tensor:
    """Meaning, look and light, weighted -> (N, D) of unit rows."""
    weighted = [weight * one for weight, one in zip(BLOCK_WEIGHTS.values(), blocks, strict=True)]
    return functional.normalize(torch.cat(weighted, dim=1), dim=1)


def as_targets(meaning: Tensor, look: Tensor, light: Tensor) -> Tensor:
    """A photo's blocks -> (N, D) of unit rows."""
    return join(meaning, look, functional.normalize(light, dim=1))


def fit_operators(light: Floats) -> tuple[Floats, Floats]:
    """(P, 1 + K, L) of photos and their edits -> (K, L, L) and (K, L), by ridge regression.

    An operator gives the difference that its edit makes, from the light of the photo as it is.
    """
    photo = light[:, 0].astype(np.float64)
    mean = photo.mean(axis=0)
    centred = photo - mean
    inverse = np.linalg.inv(centred.T @ centred + RIDGE * np.eye(photo.shape[1]))
    operators, biases = [], []
    for edited in light.swapaxes(0, 1)[1:]:
        change = edited - photo
        operator = inverse @ centred.T @ (change - change.mean(axis=0))
        operators.append(operator)
        biases.append(change.mean(axis=0) - mean @ operator)
    return np.stack(operators).astype(np.float32), np.stack(biases).astype(np.float32)


def fit_choice(sentences: Floats, edits: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(T, 384) vectors and (T,) edits, 0 for none -> (1 + K, 384) and (1 + K,).

    Multinomial logistic regression with decayed weights, every edit counting alike however many
    wordings it has; it reads new wordings better than what is trained along with the gates.
    """
    read, asked = torch.from_numpy(sentences), torch.from_numpy(edits)
    shares = 1 / torch.bincount(asked).float()
    shares[0] *= UNCHANGED
    counted = shares[asked] / shares[asked].sum()
    weight = torch.zeros(len(shares), sentences.shape[1], requires_grad=True)
    bias = torch.zeros(len(shares), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        missed = functional.cross_entropy(read @ weight.T + bias, asked, reduction="none")
        total = (counted * missed).sum() + CHOICE_DECAY * weight.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    sharp_weight, sharp_bias = (SHARPNESS * one.detach() for one in (weight, bias))
    return sharp_weight.numpy(), sharp_bias.numpy()
