"""Optimisers with parameter groups, and the learning rate over the steps."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lensctl_training.recipe import OptimiserRecipe

ADAFACTOR_EPSILONS = (1e-15, 1e-3)
"""What makes torch.optim.Adafactor the published one (Shazeer and Stern, 2018).

The paper adds 1e-30 to every squared gradient. torch takes its first epsilon twice: squared, as a
floor of the second moment (so 1e-15 gives the paper's 1e-30), and plain, as a floor of the mean
second moment it divides by. With torch's default of 1.2e-7 that floor binds where the gradients of
a matrix are below 3e-4, as those of large models are, and the factored estimate is wrong. The
second epsilon is the paper's: the least scale of a parameter. The rate is relative to the root mean
square of a parameter's values.
"""


def make_optimiser(
    model: nn.Module, temperature: nn.Module, recipe: OptimiserRecipe, backbone_prefix: str
) -> Optimizer:
    """Groups: new and backbone parameters, each with and without weight decay.

    Args:
        model: parameters that need no gradient are left out.
        temperature: new parameters without decay.
        recipe: names the optimiser and its rates.
        backbone_prefix: parameters whose name starts so have the backbone's rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            backbone = name.startswith(backbone_prefix)
            groups.setdefault((backbone, has_decay(name, parameter)), []).append(parameter)
    learned = [p for p in temperature.parameters() if p.requires_grad]
    groups.setdefault((False, False), []).extend(learned)
    settings = [
        {
            "params": parameters,
            "lr": recipe.backbone_rate if backbone else recipe.rate,
            "weight_decay": recipe.weight_decay if decay else 0.0,
        }
        for (backbone, decay), parameters in sorted(groups.items())
        if parameters
    ]
    if recipe.name == "adafactor":
        return torch.optim.Adafactor(settings, eps=ADAFACTOR_EPSILONS)
    # The fused step does the same in one pass over the memory; DTensors have it too.
    return torch.optim.AdamW(settings, betas=(recipe.beta1, recipe.beta2), fused=True)


def has_decay(name: str, parameter: nn.Parameter) -> bool:
    """Matrices and kernels decay; biases, norms, embeddings and learned tokens do not."""
    return parameter.ndim >= 2 and not any(
        word in name for word in ("embedding", "norm", "ln_", "query_token", "pooler.query")
    )


def rate_factor(step: int, recipe: OptimiserRecipe) -> float:
    """The share of the learning rate at a step counted from 0: warm-up, then decay."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if recipe.decay == "constant":
        return 1.0
    done = min(1.0, (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))
    return 1.0 - done if recipe.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def make_schedule(optimiser: Optimizer, recipe: OptimiserRecipe) -> LambdaLR:
    """The learning rate of every group follows `rate_factor`."""
    return LambdaLR(optimiser, lambda step: rate_factor(step, recipe))


def clip(parameters: Iterable[nn.Parameter], norm: float) -> float:
    """Scale all gradients so that their common norm is at most `norm` (0: leave them).

    Returns:
        The norm before, infinite or NaN where a gradient is.
    """
    total = nn.utils.clip_grad_norm_(parameters, norm or math.inf)
    # FSDP returns a DTensor, of which every process holds a part.
    return float(total.full_tensor() if hasattr(total, "full_tensor") else total)
