"""Copies are found, exact and near, and different photos are not taken for copies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.library.duplicates import CANDIDATE_COSINE, _close_pairs
from lensctl.library.vectors import Header, SearchFile, pack_rows
from support.command import run_in
from support.sample_photos import write_sample_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    photos = write_sample_photos(folder / "photos")
    shutil.copy(photos / "moon.jpg", photos / "moon (1).jpg")
    shutil.copy(
        photos / "moon.jpg", photos / b"moon\xff copy.jpg".decode("utf-8", "surrogateescape")
    )
    with Image.open(photos / "chelsea.jpg") as cat:
        cat.resize((225, 150)).save(photos / "cat small.jpg", quality=50)
    with Image.open(photos / "rocket.jpg") as rocket:
        rocket.point(lambda value: min(255, round(value * 1.15))).save(photos / "bright.jpg")
    done = run_in(folder, "index", photos)
    assert done.returncode == 0, done.stderr
    return folder


def _groups(place: Path, *options: str) -> dict[str, list[list[str]]]:
    answer = json.loads(run_in(place, "duplicates", "--json", *options).stdout)
    found: dict[str, list[list[str]]] = {"exact": [], "near": []}
    for group in answer["groups"]:
        assert [one["keep"] for one in group["photos"]] == [True] + [False] * (
            len(group["photos"]) - 1
        )
        found[group["kind"]].append([Path(one["path"]).name for one in group["photos"]])
    return found


def test_exact_and_near_copies_and_nothing_else(place: Path) -> None:
    found = _groups(place)
    assert found["exact"] == [["moon.jpg", "moon (1).jpg", "moon? copy.jpg"]]
    assert sorted(map(sorted, found["near"])) == [
        ["bright.jpg", "rocket.jpg"],
        ["cat small.jpg", "chelsea.jpg"],
    ]
    assert ["chelsea.jpg", "cat small.jpg"] in found["near"]


def test_exact_alone_reads_no_photo(place: Path) -> None:
    assert _groups(place, "--exact")["near"] == []
    assert len(_groups(place, "--exact")["exact"]) == 1


def test_paths_of_what_could_go_and_no_deletion(place: Path) -> None:
    before = sorted((place / "photos").iterdir())
    done = run_in(place, "duplicates", "-0", errors="surrogateescape")
    extra = [Path(one).name for one in done.stdout.split("\0") if one]
    assert len(extra) == 4
    assert "moon.jpg" not in extra
    assert sorted((place / "photos").iterdir()) == before


def test_a_folder_alone_and_no_duplicates(place: Path) -> None:
    (place / "empty").mkdir(exist_ok=True)
    done = run_in(place, "duplicates", "--in", place / "empty")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no duplicates in" in done.stderr


def test_as_a_page(place: Path, tmp_path: Path) -> None:
    run_in(place, "duplicates", "--html", tmp_path / "copies.html", errors="surrogateescape")
    page = (tmp_path / "copies.html").read_text()
    assert page.count("<img src=") == 7
    assert page.count(">keep<") == 3


def test_sketches_miss_no_pair(tmp_path: Path) -> None:
    """Clusters whose members lie about the bound: the pairs are those of comparing them all."""
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.standard_normal((60, 1000)), 20, axis=0)
    vectors = centres + 0.575 * rng.standard_normal(centres.shape)
    packed = pack_rows(np.arange(len(vectors)), vectors.astype(np.float32))
    header = Header("lens", "target", 1000, len(vectors), 0, 0, 0, 0)
    (tmp_path / "a.vec").write_bytes(header.pack() + packed)
    file = SearchFile(tmp_path / "a.vec", header)
    exact = file.vectors_at(slice(None))
    left, right = np.nonzero(np.triu(exact @ exact.T, 1) >= CANDIDATE_COSINE)
    assert 2000 < len(left) < 10_000  # some on either side of the bound
    found = set(_close_pairs(file, np.arange(len(vectors))))
    assert found == set(zip(left.tolist(), right.tolist(), strict=True))
