"""The commands as processes: what they print where, and how they exit."""

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lensctl.cli import commands
from lensctl.errors import StorageError
from support.photo_files import write_photo

ROOT = Path(__file__).parents[2]
BUFFERED = {"PYTHONUNBUFFERED": ""}
"""As users run it: what is printed is written late, and fails late."""


def lensctl(*arguments, env=None, **options):
    """Run `lensctl` as a user does; the library is in LENSCTL_LIBRARY."""
    return subprocess.run(
        [sys.executable, "-m", "lensctl", *map(os.fspath, arguments)],
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Ten photos, indexed with the embedded model; the environment that names the library."""
    folder = tmp_path_factory.mktemp("cli")
    for number in range(10):
        write_photo(folder / "photos" / f"{number}.png", number)
    env = {"LENSCTL_LIBRARY": str(folder / "library"), "LENSCTL_CONFIG": os.devnull}
    done = lensctl("index", folder / "photos", env=env)
    assert done.returncode == 0, done.stderr.decode()
    return folder, env


def test_index_prints_its_summary_and_nothing_else(place):
    folder, env = place
    done = lensctl("index", folder / "photos", env=env)
    assert done.stdout.decode().startswith("10 photos found: nothing new")
    assert done.stderr == b""


def test_query_by_words_prints_best_first(place):
    done = lensctl("query", "a red square", "--json", "-k", "4", env=place[1])
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["query"]["text"] == "a red square"
    scores = [one["score"] for one in answer["results"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert all(Path(one["path"]).is_absolute() for one in answer["results"])


def test_query_by_photo_leaves_it_out(place):
    folder, env = place
    photo = folder / "photos" / "3.png"
    answer = json.loads(lensctl("query", photo, "--json", "-k", "99", env=env).stdout)
    assert len(answer["results"]) == 9
    assert str(photo) not in [one["path"] for one in answer["results"]]
    with_it = lensctl("query", photo, "--include-self", "--paths", "-k", "1", env=env)
    assert with_it.stdout.decode() == f"{photo}\n"


def test_query_reads_an_image_from_stdin(place):
    folder, env = place
    data = write_photo(folder / "outside.png", 3).read_bytes()
    done = lensctl("query", "-", "darker", "--paths", "-k", "2", env=env, input=data)
    assert len(done.stdout.splitlines()) == 2


def test_a_photo_on_stdin_is_left_out_as_one_by_its_path(place):
    folder, env = place
    data = (folder / "photos" / "3.png").read_bytes()
    named = lensctl("query", folder / "photos" / "3.png", "--paths", "-k", "99", env=env)
    done = lensctl("query", "-", "--paths", "-k", "99", env=env, input=data)
    assert done.stdout == named.stdout
    assert len(done.stdout.splitlines()) == 9
    kept = lensctl("query", "-", "--paths", "-k", "1", "--include-self", env=env, input=data)
    assert kept.stdout.decode() == f"{folder / 'photos' / '3.png'}\n"


def test_null_separated_paths(place):
    done = lensctl("query", "red", "-0", "-k", "3", env=place[1])
    assert done.stdout.count(b"\0") == 3
    assert b"\n" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["query", "red", "--paths"],
        ["query", "red", "--json"],
        ["status"],
        ["check"],
        ["index"],
    ],
    ids=" ".join,
)
def test_reader_that_goes_away_is_no_error(place, arguments):
    """The pipe has no reader from the start, so that every byte written to it fails."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as pipe:
        done = redirected(place, *arguments, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["query", "red"], ""), (["query", "red", "--json"], "1"), (["status"], "")],
)
def test_output_that_cannot_be_written_is_a_storage_error(place, arguments, unbuffered):
    with Path("/dev/full").open("wb") as full:
        done = redirected(place, *arguments, stdout=full, unbuffered=unbuffered)
    assert done.returncode == StorageError.exit_code == 3
    told = done.stderr.decode()
    parts = [line.split(":")[0].strip() for line in told.splitlines()]
    assert parts == ["error", "why", "next"]
    assert "what the command prints cannot be written" in told
    assert "No space left on device" in told


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_told_is_no_reason_to_stop(place, tmp_path, unbuffered):
    """`index ... 2>&1 | head -0`, and a disk that is full of its log."""
    folder, env = place
    env = {**env, "LENSCTL_LIBRARY": str(tmp_path / "library")}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as gone, Path("/dev/full").open("wb") as full:
        streams = {"stdout": gone, "stderr": full if unbuffered else gone}
        done = redirected(
            (folder, env), "index", folder / "photos", unbuffered=unbuffered, **streams
        )
    assert done.returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "library" / "catalog.sqlite")) as catalog:
        assert catalog.execute("SELECT count(*) FROM photos").fetchone() == (10,)


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("query red >&-", 0, ""),
        ("status >&-", 0, ""),
        ("query missing.jpg >&-", 2, "there is no file missing.jpg"),
        ("query - <&-", 3, "cannot read the image on stdin"),
        ("query red <&- >&-", 0, ""),
    ],
)
def test_streams_that_are_closed(place, command, code, told):
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -m lensctl {command}', sys.executable],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **place[1], **BUFFERED},
        timeout=60,
    )
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "Traceback" not in message
    assert "Exception ignored" not in message
    assert told in message if told else message == ""


def redirected(place, *arguments, stdout, stderr=subprocess.PIPE, unbuffered=""):
    """Run `lensctl` with its stdout in a place of one's own; stderr is kept."""
    return subprocess.run(
        [sys.executable, "-m", "lensctl", *arguments],
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **place[1], "PYTHONUNBUFFERED": unbuffered},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["query"], 2, "nothing to search for"),
        (["query", "missing.jpg"], 2, "there is no file missing.jpg"),
        (["query", "some/where"], 2, "there is no file some/where"),
        (["query", "."], 2, "is a folder"),
        (["query", "red", "--after", "yesterday"], 2, "is not a date"),
        (["query", "red", "--near", "1,2"], 2, "is not a place"),
        (["query", "red", "--search", "fast"], 2, "search must be"),
        (["query", "red", "--min-score", "7"], 2, "min_score must be"),
        (["query", "red", "--model", "unheard-of"], 5, "unheard-of"),
        (["query", "red", "barn"], 2, "lensctl query 'red barn'"),
        (["query", "red", "barn", "in", "snow"], 2, "lensctl query 'red barn in snow'"),
        (["query", "no such.jpg", "at", "night"], 2, "lensctl query 'no such.jpg' 'at night'"),
        (["query", "-", "at", "night"], 2, "lensctl query - 'at night'"),
        (["query", "red", "--json", "--paths"], 2, "two outputs"),
        (["query", "red", "--near", "Lisbon"], 2, "for a town use --place NAME"),
        *(
            (["query", "red", f"--{name}", ""], 2, f"--{name} is empty")
            for name in ("after", "before", "camera", "near", "place", "type")
        ),
        (["query", "red", "--after", "2999"], 1, "no photo passes"),
        (["duplicates", "--exact", "--distance", "3"], 2, "do not go together"),
        (["mine", "pages", "--out", "mined"], 2, "a folder that is called pages: ./pages"),
        (["mine", "grups", ".", "--out", "mined"], 2, "stages are pages, groups, annotate"),
        (["mine", "groups", ".", "--out", "mined"], 2, "lensctl mine groups --out DIR"),
        (["train", "check", ".", "--sheet", "nodir/a.html"], 2, "there is no folder nodir"),
        (["index", "/nowhere/at/all"], 2, "does not exist"),
        (["forget", "/nowhere/at/all"], 1, "knows no photo"),
        (["relocate", "/nowhere", "/tmp"], 2, "knows no photo"),
        (["query", "red", "--library", "/nowhere/library"], 1, "there is no photo library"),
        (["status", "--library", "/nowhere/library"], 1, "there is no photo library"),
        (["check", "--library", "/nowhere/library"], 1, "there is no photo library"),
    ],
)
def test_errors_say_what_happened_and_exit_as_documented(place, arguments, code, told):
    done = lensctl(*arguments, env=place[1])
    assert done.returncode == code
    assert told in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    if code != 1 or "library" in told:
        assert done.stdout == b""


def test_words_that_look_like_a_path_can_be_said_outright(place):
    done = lensctl("query", "--text", "day/night.jpg", "--paths", env=place[1])
    assert done.returncode == 0


def test_status_and_check(place):
    facts = json.loads(lensctl("status", "--json", env=place[1]).stdout)
    assert facts["photos"]["searchable"] == 10
    done = lensctl("check", env=place[1])
    assert (done.returncode, done.stdout) == (0, b"the library is sound\n")


def test_folder_called_like_a_model_does_not_stand_in_for_it(place, tmp_path):
    (tmp_path / "mini").mkdir()
    done = lensctl("query", "red", "--model", "mini", "--paths", env=place[1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()


def test_environment_and_file_and_flags(place, tmp_path):
    _, env = place
    config = tmp_path / "config.toml"
    config.write_text("results = 3\n")
    env = {**env, "LENSCTL_CONFIG": str(config)}

    def shown(*flags, **more):
        return len(lensctl("query", "red", "--paths", *flags, env={**env, **more}).stdout.split())

    assert shown() == 3
    assert shown(LENSCTL_RESULTS="4") == 4
    assert shown("-k", "5", LENSCTL_RESULTS="4") == 5
    config.write_text("results = 'many'\n")
    done = lensctl("query", "red", env=env)
    assert done.returncode == 2
    assert "results cannot be 'many'" in done.stderr.decode()


def test_second_writer_is_told_and_queries_go_on(place):
    from filelock import FileLock

    folder, env = place
    with FileLock(folder / "library" / "write.lock"):
        done = lensctl("index", folder / "photos", env=env)
        assert done.returncode == 4
        assert "another lensctl is writing" in done.stderr.decode()
        assert lensctl("query", "red", "--paths", env=env).returncode == 0


def test_interrupt_stops_cleanly_and_the_next_run_goes_on(tmp_path):
    for number in range(90):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    env = {**os.environ, "LENSCTL_LIBRARY": str(tmp_path / "library")}
    command = [sys.executable, "-m", "lensctl", "index", tmp_path / "photos", "--batch-size", "8"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_for_rows(tmp_path / "library" / "catalog.sqlite", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"run the command again to go on" in err
    done = lensctl("index", env=env)
    assert done.returncode == 0
    facts = json.loads(lensctl("status", "--json", env=env).stdout)
    assert facts["photos"]["searchable"] == 90


def _wait_for_rows(catalog: Path, process: subprocess.Popen) -> None:
    import sqlite3

    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as connection:
                if connection.execute("SELECT count(*) FROM photos").fetchone()[0]:
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.01)
    raise AssertionError("the index run wrote nothing")


LIGHT = [
    "query",
    "status",
    "check",
    "forget",
    "relocate",
    "models",
    "index",
    "train",
    "mine",
    "eval",
]


def test_light_commands_import_no_torch(place):
    folder, env = place
    photo = str(write_photo(folder / "stranger.png", 999))
    runs = [
        ["--help"],
        *([name, "--help"] for name in LIGHT),
        ["query", "red"],
        ["query", photo, "darker"],
        ["query", str(folder / "photos" / "1.png"), "darker", "--search", "hnsw"],
        ["status"],
        ["check"],
        ["relocate", "/nowhere", "/tmp"],
        ["forget", "/nowhere"],
        ["models", "list"],
        ["models", "info", "mini"],
    ]
    script = (
        "import sys\n"
        "sys.argv = ['lensctl', *sys.argv[1:]]\n"
        "from lensctl.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    for arguments in runs:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            env={**os.environ, **env},
            timeout=60,
        )
        assert done.stderr.decode().rstrip().endswith("False"), (arguments, done.stderr)


def test_index_query_and_demo_reach_no_network(place, tmp_path):
    """Every socket but those of the local machine's files is refused to Python in the process.

    onnxruntime has sockets of its own: where it is to report to its maker, it first writes down
    what, and under which number of this machine.
    """
    folder, env = place
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(self, address):\n"
        "    if self.family != socket.AF_UNIX:\n"
        "        raise AssertionError(f'the network was asked for {address}')\n"
        "socket.socket.connect = refuse\n"
        "socket.socket.connect_ex = refuse\n"
        "socket.getaddrinfo = lambda *a, **k: refuse(socket.socket(), a)\n"
    )
    env = {**env, "PYTHONPATH": str(tmp_path), "LENSCTL_LIBRARY": str(tmp_path / "library")}
    env |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for arguments in (["index", folder / "photos"], ["query", "red"], ["demo"]):
        done = lensctl(*arguments, env=env)
        assert done.returncode == 0, done.stderr.decode()
    kept = [path for name in ("home", "cache") for path in (tmp_path / name).rglob("*")]
    assert not [path for path in kept if "onnxruntime" in path.name], kept


@pytest.mark.parametrize(("size", "sound"), [("700k", 1), ("1300k", 0)])
def test_full_disk_loses_nothing(tmp_path, size, sound):
    """An error without a traceback, and what was committed stays.

    On the smaller disk not even an empty catalog fits: there is no library then, not half of one.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    small = tmp_path / "small"
    small.mkdir()
    for number in range(80):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], check=True)
    try:
        env = {"LENSCTL_LIBRARY": str(small / "library")}
        done = lensctl("index", tmp_path / "photos", "--batch-size", "8", env=env)
        assert done.returncode == 3, done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
        subprocess.run(["mount", "-o", "remount,size=50M", small], check=True)
        assert lensctl("check", env=env).returncode == sound
        assert lensctl("index", tmp_path / "photos", env=env).returncode == 0
        facts = json.loads(lensctl("status", "--json", env=env).stdout)
        assert facts["photos"]["searchable"] == 80
    finally:
        subprocess.run(["umount", small], check=True)


NO_TEMPORARY_FOLDER = """
mount --bind "$1" /mnt
for place in /tmp /var/tmp; do mount --bind $place $place; mount -o remount,ro,bind $place; done
cd /proc
"$0" -m lensctl index "$2" --library /mnt/library || exit 10
rm -r /mnt/library/search; mount -o remount,ro,bind /mnt
exec "$0" -m lensctl query red --library /mnt/library
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_no_temporary_folder_stops_what_needs_one_alone(place, tmp_path):
    """Indexing does not; a query does, where the library cannot be written and has no caches."""
    script = ["unshare", "-m", "bash", "-c", NO_TEMPORARY_FOLDER]
    done = subprocess.run(
        [*script, sys.executable, tmp_path, place[0] / "photos"],
        capture_output=True,
        text=True,
        env={**os.environ, **place[1], "TMPDIR": ""},
        timeout=60,
    )
    assert done.stdout.startswith("10 photos found: 10 encoded"), done.stderr
    assert done.returncode == 3
    assert "a temporary folder cannot be written" in done.stderr
    assert "TMPDIR=FOLDER" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("x.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_little_memory_is_an_error_with_advice(error, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(commands, "app", fail)
    with pytest.raises(SystemExit) as ended:
        commands.run()
    told = capsys.readouterr().err
    assert ended.value.code == 3
    assert told.startswith("error: there is not enough memory")
    assert "--workers 1 --batch-size 1" in told


def test_library_without_rights_is_an_error_with_advice(tmp_path):
    """As an unprivileged user."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    script = (
        "import os, sys\n"
        "import filelock, lensctl.cli.commands, lensctl.library.indexer\n"
        "import lensctl.library.migrations\n"
        "from lensctl.cli import main\n"
        "from lensctl.models.registry import open_model\n"
        "open_model('mini').info  # the interpreter itself may be out of that user's reach\n"
        "os.setuid(65534)\n"
        "sys.argv = ['lensctl', 'index', '/usr/share', '--library', sys.argv[1]]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, locked / "library"],
        capture_output=True,
        env={**os.environ, "LENSCTL_CONFIG": os.devnull},
        timeout=60,
    )
    assert done.returncode == 3
    assert b"Permission denied" in done.stderr
    assert b"Traceback" not in done.stderr


def test_reference_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
