"""Adafactor and AdamW as used, against their papers written out in numpy."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from lensctl_training.loss import Temperature
from lensctl_training.optimiser import (
    LEAST_SCALE,
    Adafactor,
    clip,
    has_decay,
    make_optimiser,
    rate_factor,
)
from lensctl_training.recipe import OptimiserRecipe

STEPS = 12


def published_adafactor(parameter, gradients, rate):
    """Shazeer and Stern, algorithms 4 and 6, with relative step sizes and no momentum."""
    x = parameter.astype(np.float64)
    row = col = second = 0.0
    for t, gradient in enumerate(gradients, 1):
        squared = gradient.astype(np.float64) ** 2 + 1e-30
        beta2 = 1 - t**-0.8
        if x.ndim > 1:
            row = beta2 * row + (1 - beta2) * squared.mean(axis=1, keepdims=True)
            col = beta2 * col + (1 - beta2) * squared.mean(axis=0, keepdims=True)
            estimate = row * col / row.mean()
        else:
            second = beta2 * second + (1 - beta2) * squared
            estimate = second
        update = gradient / np.sqrt(estimate)
        update /= max(1.0, np.sqrt((update**2).mean()))
        scale = max(1e-3, np.sqrt((x**2).mean()))
        x = x - min(rate, 1 / math.sqrt(t)) * scale * update
    return x


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1.0])
@pytest.mark.parametrize("shape", [(7, 5), (6,)])
@pytest.mark.parametrize("weights", [1.0, 0.0])
def test_adafactor_is_the_published_one_for_gradients_of_any_size(shape, size, weights):
    """Torch's default epsilons fail this for the small gradients of a contrastive loss."""
    rng = np.random.default_rng(0)
    start = weights * rng.standard_normal(shape).astype(np.float32)
    gradients = [(rng.standard_normal(shape) * size).astype(np.float32) for _ in range(STEPS)]
    module = nn.Module()
    module.fusion = nn.Parameter(torch.from_numpy(start.copy()))
    recipe = OptimiserRecipe(rate=0.01, steps=STEPS, warmup=0, scale_by_parameter=True)
    optimiser = make_optimiser(module, Temperature(learned=False), recipe, "clip.")
    for gradient in gradients:
        module.fusion.grad = torch.from_numpy(gradient)
        optimiser.step()
    expected = published_adafactor(start, gradients, 0.01)
    assert np.abs(module.fusion.detach().numpy() - expected).max() < 2e-6
    assert np.abs(expected).max() > 1e-5  # weights of zero learn, too


def test_a_state_of_torchs_adafactor_goes_on():
    """Earlier checkpoints have one; for gradients of this size both are the same optimiser."""
    rng = np.random.default_rng(0)
    start = {"weight": rng.standard_normal((7, 5)), "bias": rng.standard_normal(7)}
    modules = []
    for _ in range(2):
        module = nn.Module()
        for name, values in start.items():
            setattr(module, name, nn.Parameter(torch.from_numpy(values.astype(np.float32))))
        modules.append(module)
    old, new = modules
    first = torch.optim.Adafactor(old.parameters(), lr=0.01, eps=(1e-15, 1e-3))
    second = Adafactor([{"params": list(new.parameters())}])
    for step in range(6):
        for module in modules:
            generator = torch.Generator().manual_seed(step)
            for parameter in module.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        first.step()
        if step < 3:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            new.load_state_dict(old.state_dict())
        else:
            second.step()
    for name in start:
        assert (getattr(old, name) - getattr(new, name)).abs().max() < 2e-6


@pytest.mark.parametrize(("scales", "step"), [(True, LEAST_SCALE), (False, 1.0)])
def test_adafactors_rate_is_relative_to_a_parameter_or_absolute(scales, step):
    """Relative, what begins at zero hardly leaves it."""
    parameter = nn.Parameter(torch.zeros(3))
    recipe = OptimiserRecipe(rate=1e-3, warmup=0, scale_by_parameter=scales)
    module = nn.Module()
    module.weight = parameter
    parameter.grad = torch.ones(3)
    make_optimiser(module, Temperature(), recipe, "clip.").step()
    assert parameter.tolist() == pytest.approx([-1e-3 * step] * 3)


def test_rows_without_gradient_stay_where_they_are():
    """Tokens that no text uses have zero gradients: 0 / 0 must not become NaN."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.ones(4, 3))
    optimiser = make_optimiser(
        module, Temperature(), OptimiserRecipe(rate=0.1, steps=1, warmup=0), "clip."
    )
    module.weight.grad = torch.zeros(4, 3)
    module.weight.grad[1] = 1.0
    optimiser.step()
    assert module.weight.isfinite().all()
    assert (module.weight[[0, 2, 3]] == 1).all() and (module.weight[1] < 1).all()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.clip = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.fusion = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_new_and_backbone_parameters_have_their_rates_and_vectors_no_decay():
    recipe = OptimiserRecipe("adamw", rate=2e-5, backbone_rate=2e-6, weight_decay=0.1)
    model, temperature = Model(), Temperature()
    optimiser = make_optimiser(model, temperature, recipe, "clip.")
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert found[id(model.clip[0].weight)] == (2e-6, 0.1)
    assert found[id(model.clip[0].bias)] == (2e-6, 0.0)
    assert found[id(model.fusion.weight)] == (2e-5, 0.1)
    assert found[id(temperature.log_scale)] == (2e-5, 0.0)
    assert len(found) == 7


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("model.clip.visual.proj", (4, 4), True),
        ("model.clip.token_embedding.weight", (4, 4), False),
        ("model.clip.positional_embedding", (4, 4), False),
        ("model.fusion.pooler.query", (1, 4), False),
        ("model.fusion.encoder.layers.0.ffn_in.weight", (4, 4), True),
        ("model.fusion.encoder.layers.0.ffn_in.bias", (4,), False),
    ],
)
def test_what_decays(name, shape, expected):
    assert has_decay(name, nn.Parameter(torch.zeros(shape))) is expected


def test_the_rate_warms_up_and_decays():
    def rates(decay):
        recipe = OptimiserRecipe(steps=10, warmup=4, decay=decay)
        return [rate_factor(step, recipe) for step in range(11)]

    assert rates("constant") == [0.25, 0.5, 0.75, 1.0, *[1.0] * 7]
    assert rates("linear")[4:] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    assert rates("cosine")[7] == pytest.approx(0.5)


def test_clipping_bounds_the_common_norm_and_reports_it():
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip(parameters, 0.0) == pytest.approx(5.0)
    assert clip(parameters, 1.0) == pytest.approx(5.0)
    assert clip(parameters, 0.0) == pytest.approx(1.0, abs=1e-4)
    parameters[1].grad = torch.tensor([float("nan")])
    assert math.isnan(clip(parameters, 1.0))
