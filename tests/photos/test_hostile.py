"""Hundreds of broken, hostile and merely odd files: each is read or refused with a reason.

They are read by another process, so that a crash, a hang or a flood of memory is seen as one; it
gives up the rights of root, so that missing rights are missing.
"""

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lensctl.errors import PhotoError
from lensctl.photos.decode import decode
from support.hostile_files import BAD, EITHER, hostile_files
from support.image_files import encoded

MEMORY_BOUND = 700 << 20

_READER = """
import json, os, pathlib, sys
import defusedxml.ElementTree, pi_heif, rawpy
from lensctl.errors import PhotoError
from lensctl.photos.reader import read_photo
from lensctl.photos.scan import FoundPhoto, ScanRules, scan

root, at_least = os.fsencode(sys.argv[1]), int(sys.argv[2])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for entry in scan(root, ScanRules()):
    name = os.fsdecode(os.path.relpath(entry.path, root))
    if not isinstance(entry, FoundPhoto):
        print(json.dumps([name, "bad", entry.reason]))
        continue
    try:
        read = read_photo(entry.path, at_least=at_least)
        print(json.dumps([name, "good", str(read.image.size)]))
    except PhotoError as error:
        print(json.dumps([name, "bad", error.what]))
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = status.read_text().split("VmHWM:")[1].split()[0]
    print(json.dumps(["", "", 1024 * int(peak)]))
"""


@pytest.fixture(scope="module")
def hostile_folder() -> Iterator[tuple[Path, dict[str, str]]]:
    with hostile_files() as made:
        yield made


@pytest.fixture(scope="module")
def outcomes(hostile_folder: tuple[Path, dict[str, str]]) -> dict[str, tuple[str, str]]:
    folder, _expected = hostile_folder
    run = subprocess.run(
        [sys.executable, "-c", _READER, str(folder), "448"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode(errors="replace")[-2000:]
    lines = map(json.loads, run.stdout.splitlines())
    return {name: (outcome, told) for name, outcome, told in lines}


def test_each_of_them_is_read_or_refused(
    hostile_folder: tuple[Path, dict[str, str]], outcomes: dict[str, tuple[str, str]]
) -> None:
    _folder, expected = hostile_folder
    assert len(expected) >= 200
    assert outcomes.keys() - {""} == expected.keys()
    wrong = {
        name: outcomes[name]
        for name, wanted in expected.items()
        if wanted != EITHER and outcomes[name][0] != wanted
    }
    assert wrong == {}


def test_every_refusal_has_a_plain_reason(outcomes: dict[str, tuple[str, str]]) -> None:
    for name, (outcome, told) in outcomes.items():
        if outcome == BAD:
            assert told.strip(), name
            assert "Error" not in told, name
            assert "\n" not in told, name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bomb.png", "3,600 MP"),
        ("bomb.jpg", "3,600 MP"),
        ("bomb.tif", "3,600 MP"),
        ("bomb.bmp", "3,600 MP"),
        ("bomb.jp2", "3,600 MP"),
        ("empty_jpg.jpg", "empty"),
        ("text_jpg.jpg", "not an image"),
        ("pipe.jpg", "named pipe"),
        ("socket.jpg", "socket"),
        ("locked.jpg", "no rights"),
        ("closed", "no rights"),
        ("up", "leads back"),
    ],
)
def test_the_reason_is_the_true_one(
    outcomes: dict[str, tuple[str, str]], name: str, reason: str
) -> None:
    assert reason in outcomes[name][1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to ask")
def test_memory_stays_bounded(outcomes: dict[str, tuple[str, str]]) -> None:
    assert int(outcomes[""][1]) < MEMORY_BOUND


def test_a_tiff_that_is_not_read_is_named_for_what_it_is(tmp_path: Path) -> None:
    """Three channels of float, and a compression that Pillow does not know."""
    path = tmp_path / "scan.tif"
    tiff = encoded(Image.new("RGB", (8, 8), "red"), "TIFF")
    for tag, value, reason in (
        (258, 48, "3 x 48 bits per pixel, compression 1"),
        (259, 50002, "3 x 8 bits per pixel, compression 50002"),
    ):
        path.write_bytes(_with_tag(tiff, tag, value))
        with pytest.raises(PhotoError, match=f"a TIFF of a kind that is not read: {reason}"):
            decode(path, at_least=8)


def test_libtiff_writes_nothing_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tif"
    data = bytearray(encoded(Image.effect_noise((64, 64), 50), "TIFF", compression="tiff_lzw"))
    data[8:1000] = bytes(992)
    path.write_bytes(data)
    script = (
        "import sys\nfrom lensctl.errors import PhotoError\n"
        "from lensctl.photos.decode import decode\n"
        "try:\n    decode(sys.argv[1], at_least=8)\nexcept PhotoError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert run.stdout
    assert run.stderr == ""


def _with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the first value of a tag of its first directory replaced."""
    data = bytearray(tiff)
    (start,) = struct.unpack_from("<I", data, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        name, _, count, place = struct.unpack_from("<HHII", data, entry)
        if name == tag:
            for number in range(count):
                struct.pack_into(
                    "<H", data, (place if count > 2 else entry + 8) + 2 * number, value
                )
    return bytes(data)
