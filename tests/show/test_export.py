"""Results copied and linked: names collide, nothing is overwritten."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lensctl.show.copying import place_copy, place_link, remove_leftovers
from support.command import Run


def _file(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    out = tmp_path / "out"
    theirs = _file(out / "a.jpg", "theirs")
    assert place_copy(_file(tmp_path / "1" / "a.jpg", "one"), out) == out / "a-2.jpg"
    assert place_copy(_file(tmp_path / "2" / "a.jpg", "two"), out) == out / "a-3.jpg"
    assert place_link(tmp_path / "1" / "a.jpg", out) == out / "a-4.jpg"
    assert theirs.read_text() == "theirs"
    assert (out / "a-3.jpg").read_text() == "two"
    assert len(list(out.iterdir())) == 4


def test_a_number_finds_room_in_the_longest_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a" * 251 + ".jpg", "ä" * 125 + "x.jpg"):
        _file(out / name, "theirs")
        place = place_copy(_file(tmp_path / "1" / name, "ours"), out)
        assert place.name == name[0] * (249 // len(name[0].encode())) + "-2.jpg"
        assert place.read_text() == "ours"


def test_what_is_there_already_is_not_copied_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = _file(tmp_path / "a.jpg", "same")
    for place in (place_copy, place_copy):
        assert place(source, out) == out / "a.jpg"
    assert len(list(out.iterdir())) == 1
    assert [place_link(source, out) for _ in range(2)] == [out / "a-2.jpg"] * 2


def test_times_are_kept_and_a_failed_copy_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = _file(tmp_path / "a.jpg", "x")
    assert place_copy(source, out).stat().st_mtime == source.stat().st_mtime
    with pytest.raises(OSError):
        place_copy(tmp_path / "gone.jpg", out)
    assert [one.name for one in out.iterdir()] == ["a.jpg"]


def test_what_is_there_already_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    theirs = _file(out / "a.jpg", "another")
    source = _file(tmp_path / "a.jpg", "same")
    assert place_copy(source, out) == out / "a-2.jpg"
    before = out.stat().st_mtime_ns
    monkeypatch.setattr(shutil, "copy2", pytest.fail)
    assert place_copy(source, out) == out / "a-2.jpg"
    assert out.stat().st_mtime_ns == before
    assert theirs.read_text() == "another"


_KILLED = """
import os, shutil, sys, time
from pathlib import Path
from lensctl.cli import export
from lensctl.cli.terminal import ending_on_signals
def copy(source, temporary):
    Path(temporary).write_text("ha")
    os.kill(os.getpid(), int(sys.argv[3]))
    time.sleep(60)
shutil.copy2 = copy
with ending_on_signals():
    export._place([os.fsencode(sys.argv[1])], Path(sys.argv[2]), link=False, end=b"")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_export_leaves_no_half_photo_for_long(number: int, tmp_path: Path) -> None:
    source, out = _file(tmp_path / "a.jpg", "half"), tmp_path / "out"
    arguments = ["-c", _KILLED, str(source), str(out), str(int(number))]
    done = subprocess.run([sys.executable, *arguments], timeout=60)
    left = list(out.iterdir())
    if number == signal.SIGKILL:
        assert [one.name[:9] for one in left] == [".lensctl-"]
        remove_leftovers(out)
    else:
        assert done.returncode == 128 + number
        assert left == []
    assert list(out.iterdir()) == []


def test_the_half_photo_of_another_export_that_runs_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def copy(_: Path, temporary: str) -> None:
        remove_leftovers(out)
        Path(temporary).write_text("whole")

    monkeypatch.setattr(shutil, "copy2", copy)
    assert place_copy(_file(tmp_path / "a.jpg", "whole"), out).read_text() == "whole"


_PLACE = """
import os, resource, sys
import lensctl.show.copying
from lensctl.cli.export import _place
from lensctl.errors import StorageError
photos, out, limit = sys.argv[1:]
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if limit != "0":
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
from pathlib import Path
names = [os.fsencode(f"{photos}/{name}") for name in ("a.jpg", "closed.jpg", "gone.jpg", "b.jpg")]
try:
    print(_place(names, Path(out), link=False, end=b"\\n"))
except StorageError as error:
    sys.exit("\\n".join(error.lines()))
"""


def _placed(limit: int) -> "subprocess.CompletedProcess[str]":
    """Four photos copied by a user who may not read one; another is gone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        for name in ("a.jpg", "closed.jpg", "b.jpg"):
            _file(Path(folder) / name, "x" * (10 if name == "a.jpg" else 1000))
        (Path(folder) / "closed.jpg").chmod(0)
        return subprocess.run(
            [sys.executable, "-c", _PLACE, folder, f"{folder}/out", str(limit)],
            capture_output=True,
            text=True,
            timeout=60,
        )


def test_a_photo_that_cannot_be_copied_is_named_and_the_others_are() -> None:
    done = _placed(0)
    assert done.returncode == 0, done.stderr
    *places, number = done.stdout.splitlines()
    assert [Path(place).name for place in places] == ["a.jpg", "b.jpg"]
    assert number == "2"
    assert "closed.jpg: Permission denied" in done.stderr
    assert "gone.jpg: it is away or gone" in done.stderr


def test_a_folder_that_is_full_is_told_as_such() -> None:
    done = _placed(100)
    assert done.returncode == 1
    assert "error: cannot write to" in done.stderr
    assert "/out, where 1 photo went before" in done.stderr
    assert ".lensctl-" not in done.stderr


def test_export_prints_where_photos_lie_now(lensctl: Run, home: Path, tmp_path: Path) -> None:
    before = sorted((home / "photos").iterdir())
    done = lensctl("export", "a cat", "-k", "2", "--to", tmp_path / "new" / "cats")
    placed = [Path(line) for line in done.stdout.splitlines()]
    assert [one.parent for one in placed] == [tmp_path / "new" / "cats"] * 2
    assert placed[0].read_bytes() == (home / "photos" / "chelsea.jpg").read_bytes()
    linked = lensctl("export", "a cat", "-k", "1", "--to", tmp_path / "links", "--link")
    assert Path(linked.stdout.strip()).resolve() == home / "photos" / "chelsea.jpg"
    assert sorted((home / "photos").iterdir()) == before


def test_paths_of_exports_can_be_ended_by_nul(lensctl: Run, tmp_path: Path) -> None:
    done = lensctl("export", "a cat", "-k", "2", "-0", "--to", tmp_path / "cats")
    places = done.stdout.split("\0")
    assert places.pop() == ""
    assert sorted(places) == sorted(str(one) for one in (tmp_path / "cats").iterdir())


def test_export_of_nothing(lensctl: Run, tmp_path: Path) -> None:
    done = lensctl("export", "a cat", "--camera", "no such", "--to", tmp_path / "none")
    assert done.returncode == 1
    assert not (tmp_path / "none").exists()


def test_export_to_a_file_is_refused(lensctl: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    done = lensctl("export", "a cat", "--to", tmp_path / "taken")
    assert done.returncode == 2
    assert "is a file, not a folder" in done.stderr
