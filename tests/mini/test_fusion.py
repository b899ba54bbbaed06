"""The trained lens: torch and numpy agree, training starts from the sum, its parts learn."""

from types import SimpleNamespace

import numpy as np
import pytest

from lensctl.models.mini.fusion import LIGHT, LOOK, Blocks, Fusion, join
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import MEANINGS
from lensctl.models.vectors import unit

torch = pytest.importorskip("torch")
from lensctl_training.mini import fusion as trained  # noqa: E402
from lensctl_training.mini.train import (  # noqa: E402
    Bank,
    contrastive_loss,
    untrained,
    write_fusion,
)

OPERATORS = 3


def random_rows(width, seed, count=6):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.fixture
def photos():
    return Blocks(unit(random_rows(MEANINGS, 1)), unit(random_rows(LOOK, 2)), random_rows(LIGHT, 3))


@pytest.fixture
def words():
    return unit(random_rows(trained.SENTENCE, 4)), unit(random_rows(MEANINGS, 5))


@pytest.fixture
def head():
    torch.manual_seed(0)
    operators = 0.1 * random_rows(LIGHT * LIGHT, 6, OPERATORS).reshape(OPERATORS, LIGHT, LIGHT)
    choice = random_rows(trained.SENTENCE, 8, 1 + OPERATORS), np.zeros(1 + OPERATORS, np.float32)
    return trained.FusionHead((operators, random_rows(LIGHT, 7, OPERATORS)), choice).eval()


def run(head, photos, words):
    with torch.inference_mode():
        arrays = (photos.meaning, photos.look, photos.light, *words)
        return head(*map(torch.from_numpy, arrays)).numpy()


def test_untrained_gates_give_the_sum_where_no_edit_is_asked_for(photos, words, head):
    for unchanged in (0, OPERATORS):
        head.operators[-1] = head.operator_biases[-1] = 0
        head.choice.weight[:] = 0
        head.choice.bias[:] = 50 * torch.eye(1 + OPERATORS)[unchanged]
        summed = join(photos.meaning + 1.5 * words[1], photos.look, unit(photos.light))
        np.testing.assert_allclose(run(head, photos, words), summed, atol=1e-6)


def test_a_gate_far_smaller_than_that_of_words_is_shut(photos, words, head):
    head.choice.weight[:] = 0
    head.choice.bias[:] = 50 * torch.eye(1 + OPERATORS)[0]
    with torch.no_grad():
        head.gates.bias.copy_(torch.tensor([-0.15, 0.17, 0.1, 2.0]))
    light = unit(photos.light)
    shut = join(2 * words[1], 0.17 * photos.look, 0 * light)
    np.testing.assert_allclose(run(head, photos, words), shut, atol=1e-6)
    learning = join(2 * words[1] - 0.15 * photos.meaning, 0.17 * photos.look, 0.1 * light)
    np.testing.assert_allclose(run(head.train(), photos, words), learning, atol=1e-6)


def test_names_alone_are_taught_as_no_edit():
    grey, darker, beyond, town, lamp = np.eye(trained.SENTENCE, dtype=np.float32)[:5]
    taught = SimpleNamespace(photos=4, views=3, edits_asked=lambda: np.repeat([1, 2, 3], 10))
    sentences = np.repeat([grey, darker, beyond], 10, axis=0)
    light = random_rows(LIGHT, 9, taught.photos * taught.views)
    for names, read in (([town], 1), ([town, grey + lamp], 0)):
        arrays = (light, light, light, sentences, sentences, np.stack(names))
        head = untrained(Bank(*map(torch.from_numpy, arrays)), taught)
        with torch.inference_mode():
            assert int(head.choice(torch.from_numpy(grey + lamp)).argmax()) == read


def test_an_edit_is_told_by_look_and_light_alone(photos, words, head):
    head.choice.weight[:] = 0
    head.choice.bias[:] = 50 * torch.eye(1 + OPERATORS)[1]
    found = run(head, photos, words)
    np.testing.assert_allclose(found[:, :MEANINGS], 0, atol=1e-6)
    assert (np.abs(found[:, MEANINGS:]).max(axis=1) > 0.01).all()


def test_numpy_and_torch_agree(photos, words, head, tmp_path):
    for layer in (head.listen, head.gates):
        torch.nn.init.normal_(layer.weight, std=0.2)
    head = head.half().float()
    write_fusion(head, tmp_path / "fusion.safetensors")
    found = Fusion(TensorFile(tmp_path / "fusion.safetensors"))(photos, *words)
    np.testing.assert_allclose(found, run(head, photos, words), atol=1e-5)
    assert found.shape == (6, MEANINGS + LOOK + LIGHT)


def test_a_name_alone_says_nothing_of_the_photo(photos, words, head, tmp_path):
    head.choice.weight[:] = 0
    head.choice.weight[0, 0] = 100
    write_fusion(head.half().float(), tmp_path / "fusion.safetensors")
    fusion = Fusion(TensorFile(tmp_path / "fusion.safetensors"))
    sentences = np.zeros_like(words[0])
    sentences[:4, 0] = 1, 1, -1, 1  # no edit, but for the third
    pointing = np.array([False, True, False, False, False, True])
    found = fusion(photos, sentences, words[1], pointing=pointing)
    nothing = 0 * photos.look, 0 * photos.light
    only_words = join(words[1], *nothing)
    np.testing.assert_allclose(found[[0, 3]], only_words[[0, 3]], atol=1e-6)
    with_photo = fusion(photos, sentences, words[1])
    np.testing.assert_array_equal(found[[1, 2, 4, 5]], with_photo[[1, 2, 4, 5]])
    assert not np.allclose(found[0], with_photo[0])


def test_clauses_that_ask_for_two_edits_are_followed_in_turn(photos, words, head, tmp_path):
    write_fusion(head.half().float(), tmp_path / "fusion.safetensors")
    tensors = TensorFile(tmp_path / "fusion.safetensors")
    fusion, tail = Fusion(tensors), slice(MEANINGS + LOOK, None)
    first, second, beyond = 100 * unit(tensors["choice.weight"].astype(np.float32))[1:, None]
    none = np.zeros((0, trained.SENTENCE), np.float32)
    twice, undoable = np.concatenate([first, first]), np.concatenate([first, beyond])
    asked = [np.concatenate([first, second]), none, first, twice, undoable, none]
    found = fusion(photos, *words, asked)
    plain = fusion(photos, *words)
    assert not np.allclose(found[0], plain[0])
    np.testing.assert_array_equal(found[1:], plain[1:])
    weights, biases = tensors["operators"].astype(np.float32), tensors["operator_biases"]
    light = photos.light[0]
    for edit in (0, 1):
        light = light + light @ weights[edit] + biases[edit].astype(np.float32)
    assert abs(unit(found[:1, tail])[0] @ unit(light[None])[0]) == pytest.approx(1, abs=1e-5)


def test_a_clause_that_is_surely_an_edit_is_the_likeliest_one(photos, words, head, tmp_path):
    """Neither of two edits has half of the probability, but both have nearly all of it."""
    head.choice.weight[:] = 0
    head.choice.weight[1:3, 0] = torch.tensor([2.0, 1.9])
    head.choice.weight[2, 1] = 20
    write_fusion(head.half().float(), tmp_path / "fusion.safetensors")
    tensors = TensorFile(tmp_path / "fusion.safetensors")
    clauses = np.eye(trained.SENTENCE, dtype=np.float32)[:2]
    found = Fusion(tensors)(photos, *words, [clauses, *[clauses[:0]] * 5])
    light = photos.light[0]
    for operator, bias in zip(tensors["operators"][:2], tensors["operator_biases"], strict=False):
        light = light + light @ operator.astype(np.float32) + bias.astype(np.float32)
    tail = unit(found[:1, MEANINGS + LOOK :])[0]
    assert abs(tail @ unit(light[None])[0]) == pytest.approx(1, abs=1e-5)


def test_each_edit_in_turn_fades_the_look(photos, words, head, tmp_path):
    """A gate of 0.5 beside that of light, twice, is one of 0.25."""
    with torch.no_grad():
        head.gates.bias.copy_(torch.tensor([0.0, 0.5, 1.0, 0.0]))
    head.operators.zero_()
    head.operator_biases.zero_()
    write_fusion(head, tmp_path / "fusion.safetensors")
    tensors = TensorFile(tmp_path / "fusion.safetensors")
    edits = 100 * unit(tensors["choice.weight"].astype(np.float32))[1:3]
    found = Fusion(tensors)(photos, *words, [edits, *[edits[:0]] * 5])
    none, light = np.zeros_like(photos.meaning), unit(photos.light)
    for rows, gate in ((slice(1), 0.25), (slice(1, None), 0.5)):
        expected = join(none, gate * photos.look, light)
        np.testing.assert_allclose(found[rows], expected[rows], atol=1e-5)


def test_operators_give_edits_of_photos_never_seen():
    rng = np.random.default_rng(0)
    edits = rng.normal(size=(2, 5, 5)).astype(np.float32)
    photos = rng.normal(size=(200, 5)).astype(np.float32)
    views = np.stack([photos, *(photos @ edit + 1 for edit in edits)], axis=1)
    operators, biases = trained.fit_operators(views)
    unseen = rng.normal(size=(10, 5)).astype(np.float32)
    for edit, operator, bias in zip(edits, operators, biases, strict=True):
        changed = unseen + unseen @ operator + bias
        np.testing.assert_allclose(changed, unseen @ edit + 1, atol=0.1)


def test_the_choice_reads_what_is_near_its_wordings():
    centres = unit(random_rows(8, 1, 3))
    edits = np.repeat([0, 1, 2], [80, 5, 5])
    sentences = unit(centres[edits] + 0.2 * random_rows(8, 2, 90))
    weight, bias = trained.fit_choice(sentences, edits)
    assert (centres @ weight.T + bias).argmax(axis=1).tolist() == [0, 1, 2]


def test_the_loss_against_its_formula():
    """-log of exp(q.t) of the right answers over that of all, each as often as it counts."""
    queries, gallery = unit(random_rows(5, 1, 3)), unit(random_rows(5, 2, 4))
    right = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
    counts = np.array([[1, 1, 8, 1], [1, 1, 1, 1], [3, 1, 1, 2]], dtype=np.float32)
    powers = counts * np.exp(queries @ gallery.T / 0.1)
    expected = -np.log((powers * right).sum(axis=1) / powers.sum(axis=1)).mean()
    arrays = map(torch.from_numpy, (queries, gallery, right))
    found = contrastive_loss(*arrays, 0.1, torch.from_numpy(counts))
    assert found.item() == pytest.approx(expected, rel=1e-5)
