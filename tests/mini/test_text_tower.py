"""Words into vectors: the tokenizer against the published one, the tower against onnxruntime."""

import numpy as np
import pytest

from lensctl.models.mini.packages import TEXT_VOCABULARY, TEXT_WEIGHTS, verified
from lensctl.models.mini.text_tower import LONGEST, TextTower
from lensctl.models.mini.wordpiece import WordPiece

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
    return TextTower(verified(TEXT_WEIGHTS), verified(TEXT_VOCABULARY))


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_cut_as_the_published_tokenizer_cuts_them(text):
    tokenizers = pytest.importorskip("tokenizers")
    reference = tokenizers.BertWordPieceTokenizer(str(verified(TEXT_VOCABULARY)))
    expected = reference.encode(text.replace("[CLS]", "cls")).ids
    assert WordPiece(verified(TEXT_VOCABULARY)).encode(text.replace("[CLS]", "cls")) == expected


def test_the_tower_computes_what_the_published_network_computes(tower):
    """The same layers in torch, from the same file: numpy's differ by rounding only."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    from safetensors.torch import load_file

    weights = load_file(verified(TEXT_WEIGHTS))
    ids = torch.tensor([tower._ids("a red car in the snow")])

    def linear(x, name):
        return functional.linear(x, weights[name + ".weight"], weights[name + ".bias"])

    def norm(x, name):
        return functional.layer_norm(
            x, (384,), weights[name + ".weight"], weights[name + ".bias"], 1e-12
        )

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(6):
        name = f"encoder.layer.{number}."
        q, k, v = (
            linear(x, f"{name}attention.self.{part}").unflatten(-1, (12, 32)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        attended = linear(mixed, name + "attention.output.dense")
        x = norm(x + attended, name + "attention.output.LayerNorm")
        wide = functional.gelu(linear(x, name + "intermediate.dense"))
        x = norm(x + linear(wide, name + "output.dense"), name + "output.LayerNorm")
    expected = functional.normalize(x.mean(dim=1), dim=1).numpy()
    np.testing.assert_allclose(tower.encode(["a red car in the snow"]), expected, atol=1e-5)


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
