"""Words into vectors: the tokenizer against the published one, the tower against torch."""

import numpy as np
import pytest
import torch

from lensctl.errors import CheckpointError
from lensctl.models.mini.info import DATA
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import FILE, LONGEST, SCALE, VOCABULARY, TextTower
from lensctl.models.mini.wordpiece import WordPiece
from lensctl_training.mini.distil import Encoder, write_tower

TEXTS = [
    "a cat",
    "",
    "Ein café-Haus: the dog's 日本 running‐fast!",
    "tab\tand\nnewline  and   spaces\u00a0here",
    "naïve ÅNGSTRÖM Ελλάδα ελληνικά Москва",
    "x" * 120 + " unaffordable antidisestablishmentarianism",
    "1,234.50$ + 3% = ~£5? #tag @you [CLS] {a}",
    "control\x07char zero\u200bwidth",
]


@pytest.fixture(scope="module")
def tower():
    return TextTower(DATA / FILE)


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_cut_as_the_published_tokenizer_cuts_them(text, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_bytes(TensorFile(DATA / FILE)[VOCABULARY].tobytes() + b"\n")
    reference = tokenizers.BertWordPieceTokenizer(str(vocabulary))
    expected = reference.encode(text.replace("[CLS]", "cls")).ids
    pieces = vocabulary.read_text(encoding="utf-8").splitlines()
    assert WordPiece(pieces).encode(text.replace("[CLS]", "cls")) == expected


def test_the_tower_computes_what_torch_computes(tmp_path):
    """With the same integers, numpy and torch differ by rounding only."""
    torch.manual_seed(0)
    encoder = Encoder(pieces=6, layers=2).eval()
    write_tower(encoder, ["[UNK]", "[CLS]", "[SEP]", "red", "car", "##s"], tmp_path / FILE)
    written = TensorFile(tmp_path / FILE)
    state = {}
    for name in encoder.state_dict():
        values = torch.from_numpy(written[name].astype(np.float32))
        if name + SCALE in written.names():
            values *= torch.from_numpy(written[name + SCALE].astype(np.float32))
        state[name] = values
        assert (values - encoder.state_dict()[name]).abs().max() < 0.02
    encoder.load_state_dict(state)
    with torch.inference_mode():
        expected = encoder(torch.tensor([[1, 3, 4, 5, 2], [1, 0, 3, 4, 2]])).numpy()
    found = TextTower(tmp_path / FILE).encode(["Red cars", "blue red car"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_file_without_the_encoder_is_refused():
    with pytest.raises(CheckpointError, match="vocabulary"):
        TextTower(DATA / "lens.safetensors")


def test_a_text_encodes_alike_alone_and_among_others(tower):
    together = tower.encode(TEXTS)
    alone = np.concatenate([tower.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_likeness_of_meaning_not_of_letters(tower):
    cat, kitten, car = tower.encode(["a cat", "a kitten", "a cart"])
    assert cat @ kitten > 0.7 > 0.5 > cat @ car


def test_what_is_beyond_the_longest_text_has_no_effect(tower):
    long = "cat " * LONGEST
    np.testing.assert_allclose(tower.encode([long + "dog"]), tower.encode([long]), atol=1e-6)
