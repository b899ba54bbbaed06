"""The torch-free side: no torch, no network, the same numbers, only what a question needs."""

import subprocess
import sys

import numpy as np
import pytest

from lensctl.models.accelerator import cpu_flags
from lensctl.models.convert.convert import Conversion, convert
from lensctl.models.folder import ModelFolder
from lensctl.models.verify import least_cosine
from support.official_checkpoint import SMALL, random_arrays, write_checkpoint

NO_NETWORK = """
import sys
def refuse(event, _):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise AssertionError("the network was touched")
sys.addaudithook(refuse)
"""

ASK = """
from PIL import Image
from lensctl.models.registry import list_models, open_model
import lensctl.cli.models
model = open_model(sys.argv[1])
list_models()
side = model.query_side()
kept = side.encode_images(side.preprocess(Image.new("RGB", (90, 60), "teal"))[None])
side.make_queries(kept, ["inside view of"])
side.encode_texts(["a dog"]), side.make_targets(kept), side.text_keys(kept)
heavy = {"torch", "open_clip", "httpx", "transformers"} & sys.modules.keys()
assert not heavy, heavy
"""

INDEX = """
import numpy as np
from lensctl.models.registry import open_model
side = open_model(sys.argv[1]).index_side()
side.make_targets(side.encode_images(np.zeros((1, 3, 40, 40), np.float32)))
import os
assert os.environ["HF_HUB_OFFLINE"] == "1"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("query")
    path = write_checkpoint(place / "w.pkl", random_arrays(SMALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENSCTL_MODELS", str(place / "models"))
        return convert(Conversion(path, name="small"))


@pytest.mark.parametrize("code", [ASK, INDEX], ids=["query", "index"])
def test_no_network_and_no_torch(code: str, folder: ModelFolder) -> None:
    command = [sys.executable, "-c", NO_NETWORK + code, str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def _kept(folder: ModelFolder, number: int) -> np.ndarray:
    shape = (number, folder.info.embedding_dim)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_an_empty_instruction_is_the_target(folder: ModelFolder) -> None:
    side, kept = folder.query_side(), _kept(folder, 4)
    queries = side.make_queries(kept, ["", "  ", "\n", "in winter"])
    targets = side.make_targets(kept)
    assert np.array_equal(queries[:3], targets[:3])
    assert np.abs(queries[3] - targets[3]).max() > 0.01


def test_a_batch_gives_what_its_members_give(folder: ModelFolder) -> None:
    side, kept = folder.query_side(), _kept(folder, 5)
    texts = ["a", "inside view of the same building", "", "wow!!! (!) !!", "very " * 100]
    together = side.make_queries(kept, texts)
    alone = [side.make_queries(kept[i : i + 1], texts[i : i + 1])[0] for i in range(5)]
    assert np.abs(together - np.stack(alone)).max() < 1e-5
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    assert together.dtype == np.float32


def test_nothing_gives_nothing(folder: ModelFolder) -> None:
    side, none = folder.query_side(), _kept(folder, 0)
    assert side.make_targets(none).shape == (0, folder.info.target_dim)
    assert side.make_queries(none, []).shape == (0, folder.info.target_dim)
    assert side.encode_texts([]).shape == (0, folder.info.text_dim)


def test_long_texts_are_cut_and_known(folder: ModelFolder) -> None:
    side = folder.query_side()
    assert not side.truncated("a " * 75)
    assert side.truncated("a " * 76)
    assert np.allclose(side.encode_texts(["a " * 75]), side.encode_texts(["a " * 90]))


def test_bf16_weights_stay_close(folder: ModelFolder) -> None:
    pixels = np.random.default_rng(2).standard_normal((4, 3, 40, 40), dtype=np.float32)
    exact = folder.index_side("cpu", "fp32").encode_images(pixels)
    coarse = folder.index_side("cpu", "bf16")
    assert coarse.precision == "bf16" and coarse.device == "cpu"
    embeddings = coarse.encode_images(pixels)
    assert embeddings.dtype == np.float32
    if cpu_flags() & {"avx512_bf16", "amx_bf16"}:  # elsewhere OpenVINO computes in float32
        assert not np.array_equal(embeddings, exact)
    assert least_cosine(embeddings, exact) > 0.999


def test_one_photo_at_a_time(folder: ModelFolder) -> None:
    pixels = np.random.default_rng(2).standard_normal((3, 3, 40, 40), dtype=np.float32)
    side = folder.index_side("cpu", "fp32")
    alone = np.concatenate([side.encode_images(pixels[i : i + 1]) for i in range(3)])
    assert np.abs(alone - side.encode_images(pixels)).max() < 1e-5
