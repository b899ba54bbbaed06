"""Optimisers with parameter groups, and the learning rate over the steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lensctl_training.recipe import OptimiserRecipe

EPSILON, LEAST_SCALE = 1e-30, 1e-3
"""Adafactor's: what is added to every squared gradient, and the least scale of a parameter."""


class Adafactor(Optimizer):
    """Adafactor as published (Shazeer and Stern, 2018, algorithms 4 and 6), without momentum.

    torch's own is another one where gradients are small, and fails on the DTensors of FSDP; the
    state has the same names, so that checkpoints made with it go on. All statistics are of whole
    parameters, also where a process holds some of the rows only.

    Args:
        groups: tables with `params`, `lr` (the largest step) and `weight_decay`.
        scale_by_parameter: the rate is relative to the root mean square of a parameter's values, as
            in algorithm 4; else it is absolute, as other optimisers' rates are.
    """

    def __init__(self, groups: list[dict[str, Any]], *, scale_by_parameter: bool = True) -> None:
        super().__init__(groups, {"lr": 1e-2, "weight_decay": 0.0})
        self._scales = scale_by_parameter

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients; parameters without one stay. `closure` is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, rate: float, decay: float) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        state["step"] = state.get("step", torch.tensor(0.0)) + 1
        step = float(state["step"])
        new = step**-0.8
        squared = gradient.square() + EPSILON
        if gradient.ndim > 1:
            rows = _follow(state, "row_var", _mean(squared, -1), new)
            columns = _follow(state, "col_var", _mean(squared, -2), new)
            # One factor after the other: products of tiny ones would be zero.
            update = gradient * (rows / _mean(rows, -2)).rsqrt() * columns.rsqrt()
        else:
            update = gradient * _follow(state, "variance", squared, new).rsqrt()
        update /= _root_mean_square(update).clamp(min=1.0)
        if self._scales:
            update *= _root_mean_square(parameter).clamp(min=LEAST_SCALE)
        parameter.mul_(1.0 - rate * decay)
        parameter.sub_(_as_placed(update * min(rate, step**-0.5), parameter))


def _follow(state: dict[str, Any], name: str, value: Tensor, new: float) -> Tensor:
    """The running mean of this name, of which `value` becomes the share `new`."""
    mean = state.get(name, value) * (1.0 - new) + value * new
    state[name] = mean
    return mean


def _mean(values: Tensor, axis: int) -> Tensor:
    return _whole(values.sum(dim=axis, keepdim=True)) / values.shape[axis]


def _root_mean_square(values: Tensor) -> Tensor:
    return (_whole(values.square().sum()) / values.numel()).sqrt()


def _whole(total: Tensor) -> Tensor:
    """A sum over rows that lie in several processes, added up in all of them; others as they are.

    A sum, as a mean of means is another where processes have unequally many rows.
    """
    if isinstance(total, DTensor) and any(place.is_partial() for place in total.placements):
        return total.redistribute(placements=[Replicate()] * len(total.placements))
    return total


def _as_placed(values: Tensor, parameter: Tensor) -> Tensor:
    """A single row, which broadcasts, comes out of DTensor's arithmetic in every process."""
    if isinstance(values, DTensor) and isinstance(parameter, DTensor):
        return values.redistribute(placements=parameter.placements)
    return values


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
        return Adafactor(settings, scale_by_parameter=recipe.scale_by_parameter)
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


def resume_schedule(schedule: LambdaLR, state: dict[str, Any], recipe: OptimiserRecipe) -> None:
    """Take up a schedule's state, but with the rates that the recipe has now."""
    rates = list(schedule.base_lrs)
    schedule.load_state_dict(state)
    schedule.base_lrs = rates
    factor = rate_factor(schedule.last_epoch, recipe)
    schedule._last_lr = [rate * factor for rate in rates]
    for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


def clip(parameters: Iterable[nn.Parameter], norm: float) -> float:
    """Scale all gradients so that their common norm is at most `norm` (0: leave them).

    Returns:
        The norm before, infinite or NaN where a gradient is.
    """
    total = nn.utils.clip_grad_norm_(parameters, norm or math.inf)
    # FSDP returns a DTensor, of which every process holds a part.
    return float(total.full_tensor() if hasattr(total, "full_tensor") else total)
