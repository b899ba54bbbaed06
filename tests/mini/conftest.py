"""One model for all tests of `mini`: its packages' files are read once."""

import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from lensctl.models.mini import open_mini

PHOTOS = {
    "a cat": "chelsea",
    "a cup of coffee": "coffee",
    "an astronaut in a space suit": "astronaut",
    "a rocket launch": "rocket",
}


@pytest.fixture(scope="session", autouse=True)
def models_home(tmp_path_factory):
    previous = os.environ.get("LENSCTL_MODELS")
    home = tmp_path_factory.mktemp("models")
    os.environ["LENSCTL_MODELS"] = str(home)
    yield home
    if previous is None:
        del os.environ["LENSCTL_MODELS"]
    else:
        os.environ["LENSCTL_MODELS"] = previous


@pytest.fixture(scope="session")
def query_side(models_home):
    return open_mini().query_side()


@pytest.fixture(scope="session")
def photos():
    return [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOS.values()]


@pytest.fixture(scope="session")
def descriptions():
    return list(PHOTOS)


@pytest.fixture(scope="session")
def embeddings(query_side, photos):
    return query_side.encode_images(np.stack([query_side.preprocess(photo) for photo in photos]))


@pytest.fixture
def run_python():
    def run(code, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
