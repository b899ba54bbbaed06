"""The shell: its language, its answers, and the whole of it in a real pseudo-terminal."""

import os
import sys
from pathlib import Path

import numpy as np
import pexpect
import pytest

from lensctl.cli.shell_language import Command, Search, parse
from lensctl.errors import UsageError
from lensctl.library.composition import compose
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.models.registry import open_model
from support.command import Run, environment_of
from support.terminal import Terminal


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("", None),
        ("red barn", Search((), "red barn", "")),
        ("3", Search((3,), "", "")),
        ("3 at night", Search((3,), "at night", "")),
        ("3 + 5 at night", Search((3, 5), "at night", "")),
        ("3+5", Search((3, 5), "", "")),
        ("3 not people", Search((3,), "", "people")),
        ("beach not people", Search((), "beach", "people")),
        ("knots on a rope", Search((), "knots on a rope", "")),
        ('"3 cats"', Search((), "3 cats", "")),
        ('"back"', Search((), "back", "")),
        ("3d model", Search((), "3d model", "")),
        ("open sea", Search((), "open sea", "")),
        ("back to school", Search((), "back to school", "")),
        ("open 2", Command("open", "2")),
        ("back", Command("back")),
        ("exit", Command("quit")),
        ("?", Command("help")),
        ("/min-score 0.5", Command("min-score", "0.5")),
        ('/in "My Trip"', Command("in", "My Trip")),
        ("24/7 shop", Search((), "24/7 shop", "")),
        ("/in ~/Photos 2024", Command("in", "~/Photos 2024")),
        ("/place", Command("place")),
        ("~nosuchuser over sea", Search((), "~nosuchuser over sea", "")),
        pytest.param("9" * 5000, Search((), "9" * 5000, ""), id="a long number"),
        pytest.param(
            f"open {'9' * 5000}", Search((), f"open {'9' * 5000}", ""), id="open a long number"
        ),
    ],
)
def test_what_lines_mean(line: str, meaning: object) -> None:
    assert parse(line) == meaning


def test_files_are_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tmp_path / "a b.jpg"
    photo.write_bytes(b"")
    (tmp_path / "plain.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert parse(f'"{photo}" at night') == Search((photo,), "at night", "")
    assert parse("plain.jpg + 2 at night") == Search((Path("plain.jpg"), 2), "at night", "")
    assert parse(str(tmp_path / "plain.jpg")) == Search((tmp_path / "plain.jpg",), "", "")


@pytest.mark.parametrize(
    "line", ["/color red", "/co-lor", "/k", "not people", "3 +", "3 + 5 +", "/in \0", "open"]
)
def test_lines_that_mean_nothing_are_refused(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line)


@pytest.mark.parametrize("line", ["nope.jpg", "nope.jpg at night", "3 + nope.JPG at night"])
def test_a_file_that_is_missing_is_not_searched_for_as_words(line: str) -> None:
    with pytest.raises(UsageError, match=r"there is no file nope\.(jpg|JPG)"):
        parse(line)
    assert parse('"nope.jpg"') == Search((), "nope.jpg", "")


@pytest.fixture(scope="module")
def session(home: Path):
    with open_session(Library(home / "library"), open_model("mini")) as session:
        yield session


def _content(session, home: Path, name: str) -> int:
    return session.catalog.content_at(os.fsencode((home / "photos" / name).resolve()))[0]


def test_one_photo_and_words_are_the_models_own_question(session, home: Path) -> None:
    coffee = _content(session, home, "coffee.jpg")
    mine = compose(session, [coffee], "at night")
    models = session.ask_photo(home / "photos" / "coffee.jpg", "at night")
    assert np.allclose(mine.vector, models.vector, atol=1e-6)
    assert (mine.kind, mine.content_ids) == ("composed", (coffee,))
    assert np.allclose(compose(session, [], "a cat").vector, session.ask_text("a cat").vector)


def test_several_photos_are_near_each_of_them(session, home: Path) -> None:
    names = ("coffee.jpg", "chelsea.jpg")
    both = compose(session, [_content(session, home, name) for name in names])
    single = [session.ask_photo(home / "photos" / name).vector for name in names]
    assert np.linalg.norm(both.vector) == pytest.approx(1, abs=1e-5)
    assert min(both.vector @ one for one in single) > max(0.0, float(single[0] @ single[1]))
    found = session.find(both, 99)
    assert len(found) == 7
    assert not {Path(os.fsdecode(one.facts.path)).name for one in found} & set(names)


def _lead(session, question, name: str) -> float:
    """How far a photo's cosine is above the mean of all others', in their deviations."""
    found = session.find(question, 99)
    cosines = {Path(os.fsdecode(one.facts.path)).name: one.cosine for one in found}
    own = cosines.pop(name)
    return float((own - np.mean(list(cosines.values()))) / np.std(list(cosines.values())))


def test_not_lowers_what_resembles_it(session, home: Path) -> None:
    def rank(question) -> int:
        found = session.find(question, 99)
        names = [Path(os.fsdecode(one.facts.path)).name for one in found]
        return names.index("chelsea.jpg")

    assert rank(compose(session, [], "a cat")) == 0
    assert rank(compose(session, [], "an animal", "a cat")) > rank(
        compose(session, [], "an animal")
    )
    coffee = _content(session, home, "coffee.jpg")
    cat = compose(session, [coffee], "a cat")
    less = compose(session, [coffee], "a cat", "a cat")
    # Cosines of two queries do not compare; how far the cat stands out from the rest does.
    assert _lead(session, less, "chelsea.jpg") < _lead(session, cat, "chelsea.jpg")


def test_lines_on_stdin(lensctl: Run, home: Path) -> None:
    lines = ["a cat", "1", "/place Lisbon", "a cat", "history", "open 7", "quit", "never"]
    done = lensctl("shell", "-k", "2", input="\n".join(lines) + "\n")
    assert done.returncode == 2, done.stderr
    paths = [line.split("\t")[1] for line in done.stdout.splitlines() if "\t" in line]
    names = [Path(path).name for path in paths]
    assert len(names) == 8  # the restriction has "1" answered again
    assert names[0] == "chelsea.jpg"
    assert "chelsea.jpg" not in names[2:4]  # its own photo is left out
    assert set(names[4:]) <= {"coffee.jpg", "rocket.jpg", "camera.jpg"}
    assert "  3  a cat" in done.stdout
    assert "there is no result 7" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_line_ends_the_shell(lensctl: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    opener = tmp_path / "bin" / "xdg-open"
    opener.write_text("#!/bin/sh\necho scribble; echo scribble >&2; exit 3\n")
    opener.chmod(0o755)
    lines = ["a cat", "1 +", "~nosuchuser over sea", "/in ~nosuchuser/x", "/html ~nosuchuser/x"]
    lines += ["/html photo.jpg", "/clear", "open 1", f"/k {'1' * 5000}", "/html a\0b", "a cat"]
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    script = (
        "import os, sys; os.environ['PATH'] = sys.argv.pop(1); from lensctl.cli import main; main()"
    )
    done = lensctl(
        "shell",
        "-k",
        "1",
        input="\n".join(lines) + "\n",
        program=["-c", script, path],
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "scribble" not in done.stdout + done.stderr
    for told in ("nothing follows the last +", "named like a photo", "no viewer could be started"):
        assert told in done.stderr
    assert sum("chelsea.jpg" in line for line in done.stdout.splitlines()) == 2


@pytest.mark.parametrize(("shown", "is_more"), [(8, True), (9, False)])
def test_more_is_offered_where_there_is_more(lensctl: Run, shown: int, is_more: bool) -> None:
    """The library holds nine photos."""
    done = lensctl("shell", "-k", str(shown), input="a cat\nopen 10\nmore\n")
    assert done.returncode == 2, done.stderr
    assert ("type: more" in done.stderr) == is_more
    assert ("there are no more results" in done.stderr) != is_more
    assert len(done.stdout.splitlines()) == 9


def test_in_a_linked_folder(lensctl: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(home / "photos")
    asked = f"/in {tmp_path / 'short'}\na cat\n"
    done = lensctl("shell", "-k", "1", input=asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("chelsea.jpg")
    command = lensctl("query", "a cat", "--in", tmp_path / "short", "--paths", "-k", "1")
    assert command.stdout.endswith("chelsea.jpg\n")


def test_a_conversation_at_a_terminal(home: Path, tmp_path: Path) -> None:
    viewer = tmp_path / "xdg-open"
    viewer.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    viewer.chmod(0o755)
    environment = environment_of(home) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    terminal = Terminal(["shell", "-k", "2"], environment, size=(40, 90))
    terminal.wait_for("lensctl>")
    terminal.type("a cat\r")
    assert "▀" in terminal.wait_for("2 photos in")
    terminal.type("1 in space\r")
    terminal.wait_for("2 photos in", occurrences=2)
    terminal.type("back\r")
    terminal.wait_for("back to: a cat")
    terminal.type("open 1\r")
    terminal.type("more\r")
    screen = terminal.wait_for("4 photos in")
    assert "3 0." in screen
    terminal.type("\x04")
    assert terminal.wait_for_exit() == 0
    assert (tmp_path / "opened").read_text().strip().endswith("chelsea.jpg")
    history = home / "library" / "shell-history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "1 in space" in history.read_text()


def test_a_restriction_has_the_last_question_answered_again(lensctl: Run) -> None:
    lines = ["a cat", "/place Lisbon", "more", "/clear", "/clear", "back"]
    done = lensctl("shell", "-k", "1", input="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    paths = [line.split("\t")[1] for line in done.stdout.splitlines() if "\t" in line]
    first, limited, more, cleared, *back = [Path(path).name for path in paths]
    assert first == cleared == "chelsea.jpg"
    assert back == [limited, more]
    assert {limited, more} <= {"coffee.jpg", "rocket.jpg", "camera.jpg"}
    assert "back to: a cat, /place Lisbon" in done.stderr


def test_restrictions_that_cannot_be_met_are_refused(lensctl: Run) -> None:
    lines = [
        "/in /nowhere",
        "/min-score high",
        "/min-score 2",
        "/min-score 0.9",
        "a cat",
        "history",
    ]
    done = lensctl("shell", input="\n".join(lines) + "\n")
    assert done.returncode == 2
    assert "the library knows no photo in /nowhere" in done.stderr
    assert "high is no number" in done.stderr
    assert "min_score must be between 0 and 1" in done.stderr
    assert ", /min-score 0.9" in done.stderr
    scores = [float(line.split("\t")[0]) for line in done.stdout.splitlines() if "\t" in line]
    assert scores
    assert min(scores) >= 0.9


def test_no_prompt_is_written_to_a_file(home: Path, tmp_path: Path) -> None:
    written = tmp_path / "out"
    process = pexpect.spawn(
        "bash",
        ["-c", f"exec {sys.executable} -m lensctl shell -k 1 > {written}"],
        env={**os.environ, **environment_of(home)},
        timeout=60,
    )
    process.sendline("a cat")
    process.expect("1 photo in")
    process.sendeof()
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0
    (line,) = written.read_text().splitlines()
    assert line.endswith("chelsea.jpg")


def test_a_page_that_cannot_be_written_does_not_end_the_shell(lensctl: Run) -> None:
    lines = "a cat\n/html /proc/page.html\nhistory\n"
    done = lensctl("shell", "-k", "2", input=lines)
    assert done.returncode == 3
    assert "cannot use /proc/page.html" in done.stderr
    assert "1  a cat" in done.stdout


def test_the_score_of_a_photo_less_something_is_that_of_a_photo(session, home: Path) -> None:
    photo = _content(session, home, "chelsea.jpg")
    assert compose(session, [photo], "", "a dog").kind == "image"
    assert compose(session, [photo], "at night", "a dog").kind == "composed"


_LOADING = """
import threading, time
from lensctl import cli
from lensctl.cli import shell
shell._warm_up = lambda _: loading
loading = threading.Thread(target=time.sleep, args=(60,), daemon=True)
loading.start()
cli.main()
"""


def test_ctrl_c_while_the_model_loads_does_not_end_the_shell(home: Path) -> None:
    program = (sys.executable, "-c", _LOADING)
    terminal = Terminal(["shell"], environment_of(home), program=program)
    terminal.wait_for("lensctl>")
    terminal.type("a cat\r")
    terminal.pause(0.2)
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    terminal.wait_for("lensctl>", occurrences=2)
    terminal.type("\x04")
    assert terminal.wait_for_exit() == 0


_JOB_CONTROL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
started = subprocess.Popen([sys.executable, "-m", "lensctl", "shell"], process_group=0)
os.tcsetpgrp(0, started.pid)
_, status = os.waitpid(started.pid, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
started.kill()
print("suspended", os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP)
"""


def test_ctrl_z_suspends_the_shell(home: Path) -> None:
    terminal = Terminal([], environment_of(home), program=(sys.executable, "-c", _JOB_CONTROL))
    terminal.wait_for("lensctl>")
    terminal.type("\x1a")
    terminal.wait_for("suspended True")
    terminal.wait_for_exit()
