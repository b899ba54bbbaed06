"""Runs that meet an earlier one, another one, or nothing to mine; and Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DataError, LibraryBusyError, UsageError
from lensctl_training.data.shards import read_triplets
from lensctl_training.mining.config import GroupLimits, MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.workspace import Workspace

SMALL = MineConfig(pages=PageLimits(pages_per_part=2))
NOTHING_FITS = MineConfig(pages=PageLimits(pages_per_part=2), groups=GroupLimits(min_side=5000))


def run(
    inputs: list[Path], out: Path, config: MineConfig = SMALL, only: str = "", *, replace=False
) -> dict[str, Funnel]:
    return run_pipeline(inputs, out, config, InProcess(), only, replace=replace)


def files(out: Path) -> dict[str, bytes]:
    """Shards and finished parts, without the lock and the note of the inputs."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.suffix == ".tar" or path.name == "done.json"
    }


def pages_of(out: Path) -> set[str]:
    return {triplet.provenance["site"] for triplet in read_triplets(out)}


@pytest.fixture
def other(handbook: Path, tmp_path: Path) -> Path:
    """Another folder, with one page of the handbook."""
    folder = tmp_path / "other"
    shutil.copytree(handbook / "img", folder / "img")
    shutil.copy(handbook / "mosaic.html", folder)
    return folder


@pytest.mark.usefixtures("stub")
def test_other_inputs_do_not_replace_what_is_there(
    handbook: Path, other: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    before = files(out)
    for only in ("", "pages"):
        with pytest.raises(UsageError, match=r"mined from .*handbook") as caught:
            run([other], out, only=only)
        assert "--replace" in caught.value.next_step
    assert files(out) == before


@pytest.mark.usefixtures("stub")
def test_inputs_can_be_added_and_replaced(handbook: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    run([handbook, other], out)
    assert pages_of(out) == {"handbook.invalid", "other.invalid"}
    with pytest.raises(UsageError, match=r"mined from .*other"):
        run([handbook], out)
    run([handbook], out, replace=True)
    assert pages_of(out) == {"handbook.invalid"}
    run([other], out, replace=True)
    assert pages_of(out) == {"other.invalid"}
    run([other], out)


@pytest.mark.usefixtures("stub")
def test_the_same_input_may_change(handbook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    (handbook / "mosaic.html").unlink()
    run([handbook / "img" / ".."], out)
    run([handbook], out, MineConfig(base_url="http://example.org/manual"))
    assert pages_of(out) == {"example.org"}


@pytest.mark.usefixtures("stub")
def test_nothing_is_dropped_where_the_record_of_the_inputs_is_damaged(
    handbook: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    before = files(out)
    (out / "work" / "inputs.json").write_text("{")
    with pytest.raises(DataError, match=r"inputs\.json is damaged"):
        run([handbook], out)
    assert files(out) == before
    run([handbook], out, replace=True)
    assert json.loads((out / "work" / "inputs.json").read_text()).keys() == {str(handbook)}


@pytest.mark.usefixtures("stub")
def test_shards_are_never_replaced_by_none(handbook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    before = (out / "triplets-000000.tar").read_bytes()
    for _ in range(2):
        with pytest.raises(DataError, match="no triplet") as caught:
            run([handbook], out, NOTHING_FITS)
        assert "after the stage groups: too small" in caught.value.why
        assert "earlier run" in caught.value.why
    assert (out / "triplets-000000.tar").read_bytes() == before
    assert json.loads((out / "funnel.json").read_text())["groups"]["out"].get("images", 0) == 0
    run([handbook], out)
    assert (out / "triplets-000000.tar").read_bytes() == before


@pytest.mark.usefixtures("stub")
def test_a_damaged_warc_is_named_and_no_success(tmp_path: Path) -> None:
    (tmp_path / "fake.warc.gz").write_bytes(b"12345")
    arguments = ["mine", str(tmp_path / "fake.warc.gz"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert "pages\tfiles\t1 rejected\tWARC damaged" in result.stderr
    assert isinstance(result.exception, DataError)
    assert "WARC damaged" in result.exception.why
    assert "earlier run" not in result.exception.why
    assert (tmp_path / "out" / "report.html").exists()


def test_writing_before_the_stages_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="instruct has not run"):
        run([], tmp_path / "out", only="write")
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.usefixtures("stub")
def test_a_second_run_is_kept_out(handbook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    live = out / "work" / "pages" / ".part.live"
    live.mkdir(parents=True)
    with FileLock(out / "work" / "run.lock"), pytest.raises(LibraryBusyError) as caught:
        run([handbook], out)
    assert caught.value.exit_code == 4
    assert live.exists()
    run([handbook], out)


def annotators(out: Path) -> set[str]:
    return {triplet.provenance["annotator"] for triplet in read_triplets(out)}


@pytest.mark.usefixtures("stub")
def test_the_annotator_is_the_one_that_annotated(handbook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([handbook], out)
    assert annotators(out) == {"mini"}
    another = MineConfig(model="another", pages=PageLimits(pages_per_part=2))
    run([], out, another, "write")
    assert annotators(out) == {"mini"}
    assert "annotating model (mini)" in (out / "datasheet.md").read_text()
    # Annotated anew, but not paired anew: what is written is still what mini saw.
    for part in Workspace(out).parts("annotate"):
        (out / "work" / "annotate" / part / "done.json").write_text("{}")
    run([], out, another, "annotate")
    run([], out, another, "write")
    assert annotators(out) == {"mini"}


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a process group")
@pytest.mark.parametrize("moment", ["starting-*", "part-*"])
def test_an_interrupt_ends_all_workers_without_a_word(tmp_path: Path, moment: str) -> None:
    script = Path(__file__).with_name("interrupted.py")
    flags = tmp_path / "flags"
    flags.mkdir()
    with subprocess.Popen(
        [sys.executable, script, flags], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: len(list(flags.glob(moment))) == 2)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert said == ""
    assert process.returncode == 130
    assert len(list(flags.glob("part-*"))) <= 2
