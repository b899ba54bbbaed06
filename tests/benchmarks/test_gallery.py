"""Encoding once, going on after a kill, and counting what cannot be read."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from lensctl.errors import DataError, LibraryBusyError, ModelError
from lensctl.models.interface import Floats
from lensctl_training.benchmarks.benchmark import ImageRef
from lensctl_training.benchmarks.gallery import DONE, GalleryStore
from lensctl_training.benchmarks.images import dilated, pad_to_square, read_image
from lensctl_training.benchmarks.registry import LoadOptions
from lensctl_training.benchmarks.report import Report, table
from lensctl_training.benchmarks.run import EvalOptions, run_benchmark, write_results
from support.benchmark_data import COLOURS, MeanColour, make_circo, make_cirr, paint


def some_images(folder: Path, count: int) -> list[ImageRef]:
    colours = list(COLOURS)
    images = []
    for number in range(count):
        path = folder / f"{number}.png"
        paint(path, colours[number % len(colours)])
        images.append(ImageRef(str(number), path))
    return images


def test_an_image_is_encoded_once_for_a_model(tmp_path: Path) -> None:
    images, model = some_images(tmp_path / "images", 7), MeanColour()
    first = GalleryStore(tmp_path / "cache", "b", images, model).encode(batch_size=3)
    again = GalleryStore(tmp_path / "cache", "b", images, model).encode(batch_size=3)
    assert model.encoded == 7
    assert isinstance(again.embeddings, np.memmap)
    assert again.embeddings.dtype == again.targets.dtype == np.float32
    expected = np.array(list(COLOURS.values())) / 255
    np.testing.assert_allclose(again.embeddings, expected, atol=1e-6)
    np.testing.assert_array_equal(first.targets, again.targets)
    np.testing.assert_allclose(np.linalg.norm(again.targets, axis=1), 1, atol=1e-6)


def test_a_new_lens_needs_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = some_images(tmp_path / "images", 7), MeanColour()
    GalleryStore(tmp_path / "cache", "b", images, model).encode()
    model.info = replace(model.info, lens_fingerprint="another-lens")
    monkeypatch.setattr(model, "make_targets", lambda embeddings: embeddings[:, ::-1] / 2)
    gallery = GalleryStore(tmp_path / "cache", "b", images, model).encode()
    assert model.encoded == 7
    np.testing.assert_array_equal(gallery.targets, gallery.embeddings[:, ::-1] / 2)


def test_another_encoder_or_a_changed_image_is_encoded_anew(tmp_path: Path) -> None:
    images = some_images(tmp_path / "images", 7)
    GalleryStore(tmp_path / "cache", "b", images, MeanColour()).encode()
    other = MeanColour("other")
    GalleryStore(tmp_path / "cache", "b", images, other).encode()
    assert other.encoded == 7
    coarse = MeanColour()
    coarse.precision = "int8"
    GalleryStore(tmp_path / "cache", "b", images, coarse).encode()
    assert coarse.encoded == 7
    paint(images[0].path, "white")
    os.utime(images[0].path, ns=(1, 1))
    changed = MeanColour()
    gallery = GalleryStore(tmp_path / "cache", "b", images, changed).encode()
    assert changed.encoded == 7
    np.testing.assert_allclose(gallery.embeddings[0], [1, 1, 1])


def test_a_moved_data_set_keeps_its_vectors(tmp_path: Path) -> None:
    images, model = some_images(tmp_path / "here", 7), MeanColour()
    GalleryStore(tmp_path / "cache", "b", images, model).encode()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = [ImageRef(image.name, tmp_path / "there" / image.path.name) for image in images]
    GalleryStore(tmp_path / "cache", "b", moved, model).encode()
    assert model.encoded == 7


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.benchmark_data import MeanColour
from lensctl_training.benchmarks import gallery
from lensctl_training.benchmarks.benchmark import ImageRef
from lensctl_training.benchmarks.gallery import GalleryStore

gallery.COMMIT_SECONDS = {commit}

class Dies(MeanColour):
    def encode_images(self, pixels):
        if self.encoded >= {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_images(pixels)

paths = [Path({folder!r}) / f"{{n}}.png" for n in range(30)]
images = [ImageRef(str(n), path) for n, path in enumerate(paths)]
GalleryStore(Path({cache!r}), "b", images, Dies()).encode(batch_size=4)
"""


@pytest.mark.parametrize(("after", "commit", "kept"), [(0, 0, 0), (24, 0, 24), (24, 1e9, 0)])
def test_a_killed_run_goes_on_where_it_stood(
    after: int, commit: float, kept: int, tmp_path: Path
) -> None:
    """What was committed is kept; what was not is encoded again."""
    images = some_images(tmp_path / "images", 30)
    cache = tmp_path / "cache"
    program = KILLED.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(tmp_path / "images"),
        cache=str(cache),
        after=after,
        commit=commit,
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL
    model = MeanColour()
    gallery = GalleryStore(cache, "b", images, model).encode(batch_size=4)
    assert model.encoded == 30 - kept
    whole = GalleryStore(tmp_path / "other", "b", images, MeanColour()).encode()
    np.testing.assert_array_equal(gallery.embeddings, whole.embeddings)
    np.testing.assert_array_equal(gallery.targets, whole.targets)
    assert gallery.content_hash == whole.content_hash


def test_rows_are_on_the_disk_before_their_state_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = some_images(tmp_path / "images", 3)
    store = GalleryStore(tmp_path / "cache", "b", images, MeanColour())
    flushed: list[str] = []
    flush = np.memmap.flush

    def note_and_flush(array: np.memmap) -> None:
        flush(array)
        if array.any():
            flushed.append(Path(str(array.filename)).stem)

    monkeypatch.setattr(np.memmap, "flush", note_and_flush)
    store.encode()
    assert flushed[:3] == ["embeddings", "sha256", "state"]


def test_an_interrupted_run_keeps_everything(tmp_path: Path) -> None:
    class Interrupted(MeanColour):
        def encode_images(self, pixels: Floats) -> Floats:
            if self.encoded >= 8:
                raise KeyboardInterrupt
            return super().encode_images(pixels)

    images = some_images(tmp_path / "images", 30)
    with pytest.raises(KeyboardInterrupt):
        GalleryStore(tmp_path / "cache", "b", images, Interrupted()).encode(batch_size=4)
    model = MeanColour()
    GalleryStore(tmp_path / "cache", "b", images, model).encode(batch_size=4)
    assert model.encoded == 22


def test_two_writers_are_refused(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path / "cache", "b", some_images(tmp_path, 2), MeanColour())
    with FileLock(f"{store.folder}.lock"), pytest.raises(LibraryBusyError):
        GalleryStore(tmp_path / "cache", "b", store.images, MeanColour()).encode()


def test_a_damaged_cache_says_what_to_delete(tmp_path: Path) -> None:
    images = some_images(tmp_path / "images", 3)
    store = GalleryStore(tmp_path / "cache", "b", images, MeanColour())
    store.encode()
    (store.folder / "embeddings.npy").write_bytes(b"not an array")
    with pytest.raises(DataError) as caught:
        GalleryStore(tmp_path / "cache", "b", images, MeanColour()).encode()
    assert str(store.folder) in caught.value.next_step


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(MeanColour):
        def encode_images(self, pixels: Floats) -> Floats:
            return np.full((len(pixels), 3), np.nan, dtype=np.float32)

    with pytest.raises(ModelError, match=r"not finite for 0\.png"):
        GalleryStore(tmp_path / "cache", "b", some_images(tmp_path, 3), Broken()).encode()


def score_cirr(root: Path, tmp_path: Path, *, allow_missing: bool) -> Report:
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, allow_missing=allow_missing)
    return run_benchmark("cirr", root, [MeanColour()], LoadOptions(), options)


def test_missing_images_are_refused_or_counted(tmp_path: Path) -> None:
    root = make_cirr(tmp_path / "cirr")
    (root / "img_raw/dev/dev-white.png").unlink()
    with pytest.raises(DataError, match="1 of 14 images are missing") as caught:
        score_cirr(root, tmp_path, allow_missing=False)
    assert "dev-white.png" in caught.value.why
    score = score_cirr(root, tmp_path, allow_missing=True).methods[0].tasks[0]
    # White was right for one of the two queries: never found, and still in the denominator. For
    # the other one red moves up to rank 2.
    assert score.values == {"R@1": 0, "R@5": 0.5, "R@10": 0.5, "R@50": 0.5}
    assert (score.queries, score.lost_answers, score.candidates) == (2, 1, 6)


def test_a_lost_answer_among_several_stays_in_the_denominator(tmp_path: Path) -> None:
    """CIRCO val 0 without its green image: yellow rank 1, blue rank 6, of three right answers."""
    root = make_circo(tmp_path / "circo")
    (root / "COCO2017_unlabeled/unlabeled2017/000000000002.jpg").unlink()
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, allow_missing=True)
    report = run_benchmark("circo", root, [MeanColour()], LoadOptions(), options)
    score = report.methods[0].tasks[0]
    assert score.lost_answers == 1
    assert score.values["mAP@5"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert score.values["mAP@10"] == pytest.approx(((1 + 2 / 6) / 3 + 1 / 2) / 2)


def test_unreadable_images_are_refused_or_counted(tmp_path: Path) -> None:
    root = make_cirr(tmp_path / "cirr")
    (root / "img_raw/dev/dev-red.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 images cannot be read"):
        score_cirr(root, tmp_path, allow_missing=False)
    report = score_cirr(root, tmp_path, allow_missing=True)
    score = report.methods[0].tasks[0]
    # Red is one query's image and the other's answer: nothing is found, both are counted.
    assert score.values == {"R@1": 0, "R@5": 0, "R@10": 0, "R@50": 0}
    assert (score.queries, score.without_image, score.lost_answers) == (2, 1, 1)
    assert "1 images could not be read" in table(report)
    assert "1 of 2 queries have no readable image and count as misses" in table(report)


def test_no_submission_with_an_unreadable_query(tmp_path: Path) -> None:
    root = make_cirr(tmp_path / "cirr")
    (root / "img_raw/test1/test1-red.png").unlink()
    report = score_cirr(root, tmp_path, allow_missing=True)
    names = [path.name for path in write_results(report, tmp_path / "out")]
    assert names == ["results.json", "table.txt", "page.html", "rankings.jsonl"]


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    """The published evaluation reads stored pixels; so do we."""
    picture = Image.new("RGB", (4, 2), COLOURS["red"])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    image, _ = read_image(ImageRef("turned", tmp_path / "turned.jpg"))
    assert image.size == (4, 2)


def test_a_crop_is_a_square_whatever_is_cut_off(tmp_path: Path) -> None:
    """A box at the lower edge of a red picture: 17 wide, 8 high, between rows of black."""
    Image.new("RGB", (40, 20), COLOURS["red"]).save(tmp_path / "red.png")
    image, _ = read_image(ImageRef("crop", tmp_path / "red.png", (10, 15, 10, 5)))
    assert image.size == (17, 17)
    assert [image.getpixel((8, row)) for row in (3, 4, 11, 12)] == [
        (0, 0, 0),
        (255, 0, 0),
        (255, 0, 0),
        (0, 0, 0),
    ]


def test_crops_are_dilated_clipped_and_padded() -> None:
    # In the middle of 100x100: 20x10 at (40, 50) grows to the left by 14 and up by 7; the width
    # becomes 34, the height 17.
    assert dilated((40, 50, 20, 10), 100, 100) == (26, 43, 60, 60)
    # At the left edge the far corner is measured from the clipped one: 34 wide again.
    assert dilated((5, 50, 20, 10), 100, 100) == (0, 43, 34, 60)
    assert dilated((90, 95, 10, 5), 100, 100) == (83, 92, 100, 100)
    padded = pad_to_square(Image.new("RGB", (5, 2), COLOURS["red"]))
    columns = [padded.getpixel((2, row)) for row in range(5)]
    assert padded.size == (5, 5)
    assert columns == [(0, 0, 0), (255, 0, 0), (255, 0, 0), (0, 0, 0), (0, 0, 0)]


def test_state_says_done_for_every_image(tmp_path: Path) -> None:
    images = some_images(tmp_path / "images", 5)
    store = GalleryStore(tmp_path / "cache", "b", images, MeanColour())
    store.encode()
    assert (np.load(store.folder / "state.npy") == DONE).all()


def test_failures_whose_lines_were_cut_are_failures(tmp_path: Path) -> None:
    images = some_images(tmp_path / "images", 7)
    for number in (1, 3, 5):
        images[number].path.write_bytes(b"no photo")
    store = GalleryStore(tmp_path / "cache", "b", images, MeanColour())
    whole = store.encode(batch_size=2).failures
    assert whole == {n: f"{n}.png: no image of a known format" for n in (1, 3, 5)}
    journal = store.folder / "failures.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + "3\n" + lines[1][:12])
    again = GalleryStore(tmp_path / "cache", "b", images, MeanColour())
    lost = "the reason was lost"
    assert again.encode().failures == {1: whole[1], 3: lost, 5: lost}
    state = again.array("state", (7,), "r+")
    state[5] = 0  # the kill came before the state was written
    state.flush()
    assert again.encode().failures == {1: whole[1], 3: lost, 5: whole[5]}
