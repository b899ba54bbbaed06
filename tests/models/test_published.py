"""The port against the numbers of the published code."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.models.convert.shapes import Sizes, Tower, expected_shapes
from lensctl.models.magiclens import MagicLensConfig, count_parameters, on_meta
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.tokenizer import is_truncated, token_ids, tokenize
from support import published


def test_every_published_number_is_reproduced(tmp_path: Path) -> None:
    distances = published.distances(published.port(tmp_path))
    assert len(distances) == 19
    assert {name: d for name, d in distances.items() if not d <= 1.0} == {}


@pytest.mark.parametrize("number", range(5))
def test_pixels_at_full_size(number: int) -> None:
    with np.load(published.FIXTURES / "preproc_224.npz") as arrays:
        image = Image.fromarray(arrays[f"image_{number}"])
        direct, evaluation = (arrays[f"{name}_pixels_{number}"] for name in ("direct", "eval"))
    crop = Preprocessing(mode="crop")(image).transpose(1, 2, 0)
    squash = Preprocessing(divide_by_max=True)(image).transpose(1, 2, 0)
    assert np.abs(crop - direct).max() < published.PIXELS_WITHIN
    assert np.abs(squash - evaluation).max() < published.PIXELS_WITHIN


def _tokenizer_cases() -> list[dict[str, object]]:
    fixture = json.loads((published.FIXTURES / "tokenizer_fixture.json").read_text())
    return fixture["cases"]


@pytest.mark.parametrize("case", _tokenizer_cases(), ids=lambda case: repr(case["text"])[:30])
def test_tokens(case: dict) -> None:
    text, ids, cut = case["text"], case["scenic_ids"], case["scenic_ids_truncate_true"]
    if ids is None:
        assert is_truncated(text)
    else:
        assert token_ids(text) == ids
        assert not is_truncated(text)
    row = tokenize([text])[0].tolist()
    assert row == cut + [0] * (77 - len(cut))


def test_ids_of_the_fixture_texts() -> None:
    want = published.expected()
    assert (tokenize(want["texts"].tolist()) == want["ids"]).all()
    assert (tokenize(want["extra_texts"].tolist()) == want["extra_ids"]).all()


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (MagicLensConfig("ViT-B-16-quickgelu", heads=8), 166_433_025),
        (MagicLensConfig("ViT-L-14-quickgelu", heads=16), 465_417_665),
    ],
    ids=["base", "large"],
)
def test_parameter_counts(config: MagicLensConfig, parameters: int) -> None:
    assert count_parameters(on_meta(config)) == parameters


_BASE = Sizes(512, 224, 16, 49408, 77, Tower(768, 12, 12, 3072), Tower(512, 8, 12, 2048),
              Tower(512, 8, 4, 2048), 2048, 1)  # fmt: skip
_LARGE = Sizes(768, 224, 14, 49408, 77, Tower(1024, 16, 24, 4096), Tower(768, 12, 12, 3072),
               Tower(768, 16, 4, 3072), 3072, 1)  # fmt: skip


@pytest.mark.parametrize(("sizes", "name"), [(_BASE, "base"), (_LARGE, "large")])
def test_the_published_trees_are_expected(sizes: Sizes, name: str) -> None:
    tree = {}
    for line in (published.FIXTURES / f"params_{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            path, shape, dtype = line.split("\t")
            assert dtype == "float32"
            numbers = shape.strip("()").replace(" ", "").split(",")
            tree[path.removeprefix("params/")] = tuple(int(n) for n in numbers if n)
    assert expected_shapes(sizes) == tree


def test_plain_text_takes_a_shorter_way_to_the_same_words():
    """ASCII is not handed to the packages that mend text; they would have changed nothing."""
    import html
    import random

    import ftfy

    from lensctl.models import tokenizer

    rng = random.Random(0)
    letters = [chr(code) for code in range(32, 127) if chr(code) != "&"]
    pieces = ["'s", "'LL", " <|endoftext|> ", "<|startoftext|>", "'re", "  ", "e\u0301", "&amp;"]
    for number in range(3000):
        text = "".join(
            rng.choices([*letters, *pieces[: 6 + 2 * (number % 2)]], k=rng.randint(0, 30))
        )
        mended = html.unescape(html.unescape(ftfy.fix_text(text)))
        expected = tokenizer._any_words().findall(" ".join(mended.split()).lower())
        assert tokenizer._words(text) == expected
