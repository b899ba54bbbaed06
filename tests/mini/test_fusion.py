"""The trained lens: torch and numpy agree, training starts from the sum and learns."""

import numpy as np
import pytest

from lensctl.models.mini.fusion import SPLITS, Fusion
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import unit

torch = pytest.importorskip("torch")
from lensctl_training.mini.fusion import FusionHead  # noqa: E402
from lensctl_training.mini.train import contrastive_loss, write_fusion  # noqa: E402


@pytest.fixture
def examples():
    rng = np.random.default_rng(1)
    widths = (sum(SPLITS), 384, SPLITS[0])
    return [unit(rng.normal(size=(6, width)).astype(np.float32)) for width in widths]


def test_an_untrained_fusion_is_the_sum(examples):
    targets, _, votes = examples
    head = FusionHead(share=0.7)
    with torch.inference_mode():
        found = head(*map(torch.from_numpy, examples)).numpy()
    summed = targets.copy()
    summed[:, : SPLITS[0]] += 0.7 * votes
    np.testing.assert_allclose(found, unit(summed), atol=1e-6)


def test_numpy_and_torch_agree(examples, tmp_path):
    torch.manual_seed(0)
    head = FusionHead(share=0.7)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    head = head.half().float()
    write_fusion(head, tmp_path / "fusion.safetensors")
    with torch.inference_mode():
        expected = head(*map(torch.from_numpy, examples)).numpy()
    found = Fusion(TensorFile(tmp_path / "fusion.safetensors"))(*examples, 0.7)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_loss_against_its_formula():
    """-log of exp(q.t) over the sum of all targets, own photos and decoys."""
    rng = np.random.default_rng(2)
    q, t, s, d = (unit(rng.normal(size=(3, 5)).astype(np.float32)) for _ in range(4))
    gallery = np.concatenate([t, s, d])
    powers = np.exp(q @ gallery.T / 0.1)
    expected = -np.log(powers[np.arange(3), np.arange(3)] / powers.sum(axis=1)).mean()
    found = contrastive_loss(*map(torch.from_numpy, (q, t, s, d)), 0.1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
