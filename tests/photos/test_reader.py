"""One reading of a photo gives hash, facts and pixels of the same bytes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image

from lensctl.errors import PhotoError
from lensctl.photos import reader
from lensctl.photos.decode import OpenPhoto, decode_cost, open_photo
from lensctl.photos.facts import read_facts
from lensctl.photos.reader import hash_file, read_photo
from support.image_files import encoded, exif_bytes, quarters


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(quarters(), "JPEG", exif=exif_bytes({0x0112: 6, 0x010F: "Acme"})))
    return path


def test_hash_facts_and_pixels(photo: Path) -> None:
    read = read_photo(bytes(photo), at_least=64)
    assert read.content_hash == blake2b(photo.read_bytes(), digest_size=16).digest()
    assert read.content_hash == hash_file(bytes(photo))
    assert read.facts is not None
    assert read.image is not None
    assert (read.facts.camera, read.facts.width, read.facts.height) == ("Acme", 80, 120)
    assert read.image.size == (80, 120)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_decoding_loses_no_facts(tmp_path: Path, format: str) -> None:
    exif = exif_bytes(
        {0x010F: "Acme", 0x0112: 6},
        {0x9003: "2024:07:01 12:30:05"},
        {1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 17.0, 24.0)},
    )
    path = tmp_path / "photo"
    path.write_bytes(encoded(quarters(1200, 800), format, exif=exif))
    with path.open("rb") as stream, open_photo(stream, b"", max_pixels=10**7) as photo:
        before = read_facts(photo)
    assert before.latitude is not None
    assert before.taken is not None
    assert read_photo(bytes(path), at_least=64).facts == before


def test_what_a_png_carries_behind_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    early = encoded(quarters(), "PNG", exif=exif_bytes({0x0112: 6, 0x010F: "Acme"}))
    start, end = early.index(b"eXIf") - 4, early.index(b"IDAT") - 4
    last = early.index(b"IEND") - 4
    path.write_bytes(early[:start] + early[end:last] + early[start:end] + early[last:])
    read = read_photo(bytes(path), at_least=64)
    assert read.facts is not None
    assert read.image is not None
    assert (read.facts.camera, read.facts.orientation) == ("Acme", 6)
    assert (read.facts.width, read.facts.height) == read.image.size == (80, 120)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_opening_decodes_nothing(tmp_path: Path) -> None:
    """Memory is reserved between opening a photo and decoding it, so opening must be cheap."""

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    path = tmp_path / "photo"
    for format in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000"):
        path.write_bytes(encoded(Image.new("RGB", (4000, 3000)), format))
        before = pages()
        with path.open("rb") as stream, open_photo(stream, b"", max_pixels=10**8) as photo:
            read_facts(photo)
            assert (pages() - before) * os.sysconf("SC_PAGE_SIZE") < 10_000_000, format


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "AVIF", "HEIF", "JPEG2000"])
def test_large_files_are_read_in_pieces_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(quarters(1200, 800), format))
    whole = read_photo(bytes(path), at_least=64)
    monkeypatch.setattr(reader, "_IN_MEMORY_BYTES", 100)
    pieces = read_photo(bytes(path), at_least=64)
    assert pieces.content_hash == whole.content_hash
    assert pieces.facts == whole.facts
    assert pieces.image is not None
    assert whole.image is not None
    assert pieces.image.tobytes() == whole.image.tobytes()


def test_known_content_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"no photo at all")
    read = read_photo(bytes(path), at_least=64, known=lambda content_hash: True)
    assert read.content_hash == hash_file(bytes(path))
    assert (read.facts, read.image) == (None, None)


def _grow(photo: Path) -> None:
    with photo.open("ab") as file:
        file.write(b"more")


def _rewrite(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes())
    os.utime(photo, ns=(7, 7))


@pytest.mark.parametrize("change", [_grow, _rewrite])
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_changes_meanwhile_is_refused(
    photo: Path, known: bool, change: Callable[[Path], None]
) -> None:
    def changed(content_hash: bytes) -> bool:
        change(photo)
        return known

    with pytest.raises(PhotoError, match="changed while being read"):
        read_photo(bytes(photo), at_least=64, known=changed)


def test_half_a_file_that_grows_is_called_changed_not_damaged(photo: Path) -> None:
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])

    def finish(content_hash: bytes) -> bool:
        photo.write_bytes(whole)
        return False

    with pytest.raises(PhotoError, match="changed while being read"):
        read_photo(bytes(photo), at_least=64, known=finish)
    assert read_photo(bytes(photo), at_least=64).image is not None


def test_memory_is_asked_for_before_decoding_and_given_back(photo: Path) -> None:
    asked: list[int] = []
    held: list[int] = []

    @contextmanager
    def reserve(cost: int) -> Iterator[None]:
        asked.append(cost)
        held.append(cost)
        yield
        held.pop()

    read_photo(bytes(photo), at_least=64, reserve=reserve)
    assert held == []
    assert asked == [decode_cost(120, 80, "JPEG", at_least=64, progressive=False)]


def test_nothing_is_decoded_where_memory_is_refused(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[OpenPhoto] = []
    monkeypatch.setattr(OpenPhoto, "decode", lambda photo, at_least: decoded.append(photo))

    def refuse(cost: int) -> NoReturn:
        raise MemoryError(cost)

    with pytest.raises(MemoryError):
        read_photo(bytes(photo), at_least=64, reserve=refuse)
    assert decoded == []


@pytest.mark.timeout(20)
def test_a_pipe_neither_blocks_nor_counts_as_a_photo(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for read in (lambda: read_photo(bytes(pipe), at_least=64), lambda: hash_file(bytes(pipe))):
        with pytest.raises(PhotoError, match="named pipe"):
            read()


def test_folders_devices_and_nothing(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "a folder"),
        (Path("/dev/null"), "a device"),
        (tmp_path / "gone.jpg", "gone"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(PhotoError, match=reason):
            read_photo(bytes(path), at_least=64)
    with pytest.raises(PhotoError, match="cannot be read"):
        hash_file(b"nul\0byte")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    for name in (b"new\nline.jpg", b"\xff\xfe.jpg"):
        path = os.path.join(bytes(tmp_path), name)
        Path(os.fsdecode(path)).write_bytes(encoded(quarters(), "JPEG"))
        assert read_photo(path, at_least=64).image is not None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_open_files_are_closed(photo: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read_photo(bytes(photo), at_least=64)
        with pytest.raises(PhotoError):
            read_photo(bytes(photo), at_least=64, max_pixels=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
