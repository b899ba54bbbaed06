"""What commands make of paths: empty ones, closed ones, ones that are not what was expected."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.command import Run, environment_of, run_in
from support.photo_files import write_photo
from support.terminal import Terminal


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return partial(run_in, tmp_path)


@pytest.fixture
def indexed(run: Run, tmp_path: Path) -> Path:
    for number in range(3):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    done = run("index", tmp_path / "photos")
    assert done.returncode == 0, done.stderr
    return tmp_path / "photos"


def test_an_empty_path_is_not_this_folder(run: Run, indexed: Path) -> None:
    for command in (
        ["forget", ""],
        ["index", ""],
        ["query", "red", "--in", ""],
        ["query", "", "darker"],
        ["export", "red", "--to", ""],
        ["relocate", "", ""],
    ):
        done = run(*command, cwd=indexed)
        assert done.returncode == 2, command
        assert "empty" in done.stderr
        assert "next:" in done.stderr
    assert json.loads(run("status", "--json").stdout)["photos"]["searchable"] == 3


def test_relocate_wants_a_folder_for_a_folder(run: Run, indexed: Path) -> None:
    done = run("relocate", indexed, indexed / "0.png")
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
    (indexed / "0.png").rename(indexed / "zero.png")
    done = run("relocate", indexed / "0.png", indexed / "zero.png")
    assert (done.returncode, done.stdout) == (0, f"1 photo now at {indexed / 'zero.png'}\n")


def test_a_failed_relocate_changes_nothing(run: Run, indexed: Path) -> None:
    before = run("status", "--json").stdout
    done = run("relocate", indexed / "typo", indexed.parent)
    assert (done.returncode, "knows no photo" in done.stderr) == (2, True)
    assert run("status", "--json").stdout == before


def test_relocate_looks_for_the_photos(run: Run, indexed: Path) -> None:
    """As a wrong folder would have the next index run forget them all."""
    before = run("status", "--json").stdout
    moved = indexed.parent / "disk" / "photos"
    moved.parent.mkdir()
    indexed.rename(moved)
    (moved.parent / "0.png").write_bytes(b"another")
    done = run("relocate", indexed, moved.parent)
    assert done.returncode == 2
    assert "none of 3 photos looked for is there with its size" in done.stderr
    assert f"deeper: lensctl relocate {indexed} {moved}\n" in done.stderr
    assert run("status", "--json").stdout == before
    (moved / "1.png").unlink()
    done = run("relocate", indexed, moved)
    assert (done.returncode, done.stdout) == (0, f"3 photos now at {moved}\n")
    assert done.stderr.startswith("not there with their sizes: 1 of 3 photos looked for; lensctl")


def test_a_quiet_run_tells_what_is_new_and_bad_once(run: Run, indexed: Path) -> None:
    bad = indexed / "bad.png"
    bad.write_bytes(b"no photo")
    done = run("index", "-q")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith(f"could not be read: {bad}: ")
    indexed.rename(indexed.with_name("away"))
    done = run("index", "-q")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith(f"offline: {indexed}: 4 photos since this run, nothing was")
    done = run("index", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_single_photo_is_relocated_into_a_folder_that_was_indexed(
    run: Run, indexed: Path
) -> None:
    other = indexed.parent / "other"
    write_photo(other / "7.png", 7)
    outside = indexed.parent / "outside"
    outside.mkdir()
    run("index", other)
    (indexed / "0.png").rename(outside / "0.png")
    done = run("relocate", indexed / "0.png", outside)
    assert (done.returncode, "lies in no folder" in done.stderr) == (2, True)
    (outside / "0.png").rename(other / "0.png")
    assert run("relocate", indexed / "0.png", indexed).returncode == 2
    assert run("relocate", indexed / "0.png", other).returncode == 0
    assert run("forget", indexed).returncode == 0
    again = json.loads(run("index", "--json").stdout)
    assert (again["found"], again["encoded"], again["excluded"]) == (2, 0, 0)


def test_bytes_that_are_no_text_are_no_traceback(run: Run, indexed: Path) -> None:
    for option in ("--type", "--place", "--camera"):
        done = run("query", "red", option, os.fsdecode(b"\xff"))
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
    shell = subprocess.run(
        [sys.executable, "-m", "lensctl", "shell"],
        input=b"red\n\xff\nred\n",
        capture_output=True,
        env=environment_of(indexed.parent) | {"PYTHONIOENCODING": "utf-8:strict"},
    )
    assert shell.returncode == 0, shell.stderr
    assert b"Traceback" not in shell.stderr


def test_an_unknown_folder_is_said_to_be_unknown(run: Run, indexed: Path) -> None:
    done = run("query", "red", "--in", indexed.parent / "elsewhere")
    assert done.returncode == 1
    assert "knows no photo in" in done.stderr
    done = run("duplicates", "--exact", "--in", indexed.parent / "elsewhere")
    assert done.returncode == 1
    assert "knows no photo in" in done.stderr


def test_photos_that_the_model_has_no_vectors_of_are_counted(run: Run, indexed: Path) -> None:
    """As when it has become another version, and a folder was not encoded again."""
    with sqlite3.connect(indexed.parent / "library" / "catalog.sqlite") as catalog:
        for table in ("targets", "embeddings"):
            catalog.execute(f"DELETE FROM {table} WHERE content_id > 1")
        catalog.execute("INSERT OR REPLACE INTO facts_of_library VALUES ('epoch', 9)")
    done = run("query", "red")
    assert len(done.stdout.splitlines()) == 1
    assert "not searched: 2 photos without vectors of mini" in done.stderr
    assert "lensctl index --model mini" in done.stderr
    done = run("query", indexed / "0.png", "--json")
    assert (done.returncode, json.loads(done.stdout)["results"]) == (1, [])
    assert "no photo that passes has vectors of the model" in done.stderr
    assert "2 not encoded by mini yet" in run("status").stdout
    assert "2 encoded" in run("index").stdout
    assert "not searched" not in run("query", "red").stderr


def test_another_model_for_the_library_is_told_with_the_way_back(run: Run, indexed: Path) -> None:
    with sqlite3.connect(indexed.parent / "library" / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE facts_of_library SET value = '/my models/a' WHERE key = 'model'")
    told = "searches now use mini, no longer /my models/a"
    done = run("index", "--model", "mini")
    assert told in done.stderr
    assert "lensctl index --model '/my models/a'" in done.stderr
    assert "searches now" not in run("index").stderr


def test_a_root_that_became_a_link_is_told(run: Run, indexed: Path) -> None:
    indexed.rename(indexed.parent / "moved")
    indexed.symlink_to("moved")
    done = run("duplicates", "--exact")
    moved = f"lensctl relocate {indexed} {indexed.parent / 'moved'}"
    assert (done.returncode, moved in done.stderr) == (1, True)
    assert run(*moved.split()[1:]).returncode == 0
    assert "symbolic link" not in run("duplicates", "--exact").stderr


def test_the_query_photo_alone_is_explained(run: Run, indexed: Path) -> None:
    for name in ("1.png", "2.png"):
        run("forget", indexed / name)
    done = run("query", indexed / "0.png")
    assert done.returncode == 1
    assert "--include-self" in done.stderr


@pytest.mark.parametrize("kind", ["dangling", "pipe", "broken"])
def test_a_query_photo_that_cannot_be_read_is_named(run: Run, indexed: Path, kind: str) -> None:
    photo = indexed.parent / f"{kind}.jpg"
    if kind == "dangling":
        photo.symlink_to("nowhere.jpg")
    elif kind == "pipe":
        os.mkfifo(photo)
    else:
        photo.write_bytes(b"no image")
    done = run("query", photo)
    assert done.returncode not in (0, 1)
    assert f"{kind}.jpg" in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_forget_names_what_it_did_not_find(run: Run, indexed: Path) -> None:
    done = run("forget", indexed / "0.png", indexed / "typo.png", indexed / "1.png")
    assert (done.returncode, done.stdout) == (0, "2 photos forgotten\n")
    assert done.stderr.count("knows no photo") == 1
    assert str(indexed / "typo.png") in done.stderr


def test_a_photo_whose_disk_is_away_can_be_the_question(run: Run, indexed: Path) -> None:
    (indexed.parent / "link").symlink_to(indexed)
    asked = [indexed / "0.png"], [indexed.parent / "link" / "0.png", "darker"]
    before = [run("query", *one, "--paths").stdout for one in asked]
    assert all(before)
    indexed.rename(indexed.parent / "away")
    run("index")
    for one, found in zip(asked, before, strict=True):
        done = run("query", *one, "--paths", "--html", indexed.parent / "page.html")
        assert (done.returncode, done.stdout) == (0, found), done.stderr
        assert "is away" in done.stderr


def test_a_name_that_is_no_unicode_gives_json_that_is(indexed: Path) -> None:
    photo = os.fsencode(indexed.parent) + b"/sur\xff\xfe.png"
    Path(os.fsdecode(photo)).write_bytes((indexed / "0.png").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "lensctl", "query", photo, "--json"],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment_of(indexed.parent)},
    )
    asked = json.loads(done.stdout.decode("utf-8"))["query"]
    assert "\udcff" not in asked["image"]
    assert asked["image_base64"]


def test_json_of_index_and_status_holds_paths_that_exist(run: Run, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/tab\there \xff"
    os.mkdir(folder)  # noqa: PTH102 (bytes)
    names = [folder + b"/new\nline.jpg", folder + b"/\xfe.jpg"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"no photo")
    shown = json.loads(run("index", os.fsdecode(folder), "--json").stdout)
    told = json.loads(run("status", "--json").stdout)
    for listed in (shown["unreadable"], told["errors"]):
        assert {base64.b64decode(one["path_base64"]) for one in listed} == set(names)
    assert base64.b64decode(told["roots"][0]["path_base64"]) == folder
    assert told["roots"][0]["path"] == f"{tmp_path}/tab\there ?"
    assert told["library"] == str(tmp_path / "library")
    assert "library_base64" not in told
    Path(os.fsdecode(folder)).rename(tmp_path / "away")
    shown = json.loads(run("index", "--json").stdout)
    assert shown["offline_folders"] == [f"{tmp_path}/tab\there ?"]


def test_a_camera_whose_name_is_no_unicode_is_none_that_is_known(indexed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lensctl", "query", "red", "--camera", b"\xff"],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment_of(indexed.parent)},
    )
    assert done.returncode == 1
    assert b"no photo passes the filters" in done.stderr


def test_output_that_takes_ascii_alone_is_no_error(indexed: Path) -> None:
    write_photo(indexed / "süß.png", 7)
    env = {**os.environ, **environment_of(indexed.parent), "PYTHONIOENCODING": "ascii"}
    for command in (["index", indexed], ["query", "red"], ["query", "red", "--json"], ["status"]):
        done = subprocess.run(
            [sys.executable, "-m", "lensctl", *command], capture_output=True, timeout=60, env=env
        )
        assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_folder_without_rights_can_still_be_forgotten(run: Run, indexed: Path) -> None:
    closed = indexed / "closed"
    write_photo(closed / "9.png", 9)
    run("index", indexed)
    closed.chmod(0)
    try:
        done = run("forget", closed)
    finally:
        closed.chmod(0o755)
    assert (done.returncode, done.stdout) == (0, "1 photo forgotten\n")


def test_an_older_library_is_brought_up_to_date_by_index(run: Run, indexed: Path) -> None:
    import sqlite3

    with sqlite3.connect(indexed.parent / "library" / "catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    assert "lensctl index" in run("query", "red").stderr
    done = run("index")
    assert done.returncode == 0, done.stderr
    assert run("query", "red").returncode == 0


def test_long_work_on_a_library_is_shown_on_a_terminal_alone(run: Run, indexed: Path) -> None:
    env = environment_of(indexed.parent)
    asked = {b"building the graph": ["query", "red", "--search", "hnsw"], b"checking": ["check"]}
    for shown, command in asked.items():
        terminal = Terminal(command, env)
        assert terminal.wait_for_exit() == 0
        assert shown in terminal.raw
        assert "%" not in terminal.text()
    for path in (indexed.parent / "library" / "search").glob("*.hnsw*"):
        path.unlink()
    for command in asked.values():
        assert run(*command).stderr == ""
