"""`check --repair` on libraries that disks, kills and other processes have damaged."""

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from lensctl.errors import LibraryBusyError, LibraryError, StorageError
from lensctl.library import check as check_module
from lensctl.library import vectors
from lensctl.library.check import check, repair
from lensctl.library.session import open_session
from support.full_disk import no_file_above


def _damage(path: Path) -> None:
    """Overwrite the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * 30_000)


def _paths(library) -> set[bytes]:
    with library.reading() as catalog:
        return {path for (path,) in catalog.connection.execute("SELECT path FROM photos")}


def test_a_sound_library_has_no_problems_and_is_left_alone(photos, library, index):
    index(photos)
    before = _paths(library)
    assert check(library) == []
    assert repair(library) == []
    assert _paths(library) == before


def _damage_table(library, table: str) -> None:
    """Overwrite the one page that holds all of a table's rows."""
    with library.reading() as catalog:
        (page_bytes,) = catalog.connection.execute("PRAGMA page_size").fetchone()
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = catalog.connection.execute(sql, (table,)).fetchone()
    with library.catalog_path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)


@pytest.mark.parametrize(
    ("lost", "kept", "linked", "encoded"),
    [("photos", 0, 12, 0), ("contents", 0, 0, 12), ("embeddings", 12, 0, 12), ("looks", 12, 0, 0)],
)
def test_a_damaged_database_gives_what_can_be_read_and_the_next_run_the_rest(
    photos, library, index, lost, kept, linked, encoded
):
    index(photos)
    before = _paths(library)
    _damage_table(library, lost)
    assert check(library)
    (done,) = (line for line in repair(library) if "new database" in line)
    assert len(list(library.folder.glob("catalog.damaged-*.sqlite"))) == 1, done
    assert check(library) == []
    assert len(_paths(library)) == kept
    summary = index(photos)
    assert (summary.linked, summary.encoded) == (linked, encoded)
    assert _paths(library) == before


def test_rows_on_both_sides_of_the_damage_are_kept(photos, library, index):
    index(photos)
    rows = [(f"fact {number:04}", "x" * 1000) for number in range(1000)]
    with library.writing() as recorder:
        recorder.connection.executemany("INSERT INTO facts_of_library VALUES (?, ?)", rows)
    _damage(library.catalog_path)
    repair(library)
    with library.reading() as catalog:
        facts = [catalog.fact(name) is not None for name, _ in rows]
    assert facts[0]
    assert facts[-1]
    assert not all(facts)


def test_nothing_is_repaired_while_another_process_writes(photos, library, index):
    index(photos)
    _damage(library.catalog_path)
    before = sorted(one.name for one in library.folder.iterdir())
    with FileLock(library.folder / "write.lock"), pytest.raises(LibraryBusyError):
        repair(library)
    assert sorted(one.name for one in library.folder.iterdir()) == before
    assert library.exists()


def test_unusable_vectors_and_search_files_are_made_again(photos, library, index, model):
    index(photos)
    with open_session(library, model) as session:
        session.find(session.ask_text("red"), 3)
    with library.writing() as recorder:
        recorder.connection.execute(
            "UPDATE targets SET vector = CAST(X'00FC' || substr(vector, 3) AS BLOB) WHERE id = 1"
        )
    (search_file,) = library.search_folder.glob("*text*.vec")
    _damage_byte(search_file)
    assert len(check(library)) == 2
    done = repair(library)
    assert any("1 unusable targets" in line for line in done)
    assert any(search_file.name in line for line in done)
    assert check(library) == []
    index(photos)
    with open_session(library, model) as session:
        assert len(session.find(session.ask_text("red"), 99)) == 12


@pytest.mark.parametrize(
    ("harm", "told", "encoded"),
    [
        ("UPDATE targets SET vector = substr(vector, 3)", "targets of the wrong size", 0),
        ("UPDATE embeddings SET vector = substr(vector, 3)", "embeddings of the wrong size", 1),
        ("DELETE FROM embeddings", "targets without an embedding", 1),
        ("UPDATE looks SET content_id = 99", "perceptual hashes of contents that are gone", 0),
        ("UPDATE photos SET content_id = 99", "photos whose content is gone", 0),
        ("UPDATE photos SET root_id = 99", "photos whose root is gone", 0),
    ],
)
def test_rows_that_do_not_fit_are_named_removed_and_made_again(
    photos, library, index, harm, told, encoded
):
    index(photos)
    before = _paths(library)
    with library.writing() as recorder:
        recorder.connection.execute("PRAGMA foreign_keys = OFF")
        recorder.connection.execute(f"{harm} WHERE rowid = 1")
    assert f"1 {told}" in check(library)
    assert f"removed 1 {told}" in repair(library)
    assert check(library) == []
    assert index(photos).encoded == encoded
    assert _paths(library) == before


def _damage_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_a_query_answers_though_its_unfinished_search_file_is_removed(
    photos, library, index, model, monkeypatch
):
    index(photos)
    library.drop_search_files()
    stamp = vectors._stamp

    def removed(path: Path, header: vectors.Header) -> None:
        for part in library.search_folder.glob("*.part"):
            part.unlink()
        stamp(path, header)

    monkeypatch.setattr(vectors, "_stamp", removed)
    with open_session(library, model) as session:
        assert len(session.find(session.ask_text("red"), 99)) == 12


def _in_child(work) -> int:
    """Do work in another process, which the signals and limits that it sets itself may end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _killed_while_copying(library) -> None:
    copy_rows = check_module._copy_rows

    def copy_photos_and_die(source, target, table):
        if table == "encoders":
            os.kill(os.getpid(), signal.SIGKILL)
        return copy_rows(source, target, table)

    check_module._copy_rows = copy_photos_and_die
    repair(library)


def _without_room(library) -> None:
    with no_file_above(150_000):
        try:
            repair(library)
        except (StorageError, LibraryError):
            os._exit(3)


@pytest.mark.parametrize(
    ("repairing", "ends"), [(_killed_while_copying, -signal.SIGKILL), (_without_room, 3)]
)
def test_a_repair_that_fails_leaves_the_database_and_can_be_run_again(
    photos, library, index, repairing, ends
):
    index(photos)
    before = _paths(library)
    _damage(library.catalog_path)
    damaged = library.catalog_path.read_bytes()
    assert _in_child(lambda: repairing(library)) == ends
    assert library.catalog_path.read_bytes() == damaged
    assert not list(library.folder.glob("catalog.damaged-*"))
    assert any("new database" in line for line in repair(library))
    assert check(library) == []
    assert not list(library.folder.glob("*.new*"))
    index(photos)
    assert _paths(library) == before


def test_what_the_log_holds_is_repaired_too(photos, library, index):
    index(photos)
    added = os.fsencode(library.folder / "only-in-the-log.png")

    def add_and_die() -> None:
        with library.writing() as recorder:
            recorder.connection.execute("UPDATE photos SET path = ? WHERE id = 1", (added,))
            os.kill(os.getpid(), signal.SIGKILL)

    assert _in_child(add_and_die) == -signal.SIGKILL
    _damage(library.catalog_path)
    assert any("new database" in line for line in repair(library))
    assert added in _paths(library)
    assert check(library) == []


def test_search_files_of_another_form_are_stale_and_go(photos, library, index, model):
    index(photos)
    older = library.search_folder / f"{model.info.name}-{'0' * 12}-target.vec"
    older.write_bytes(b"LENSVEC2" + bytes(5000))
    other = library.search_folder / f"{model.info.name}-large-{'0' * 12}-target.vec"
    other.write_bytes(b"LENSVEC2" + bytes(5000))
    assert check(library) == []
    index(photos)
    assert not older.exists()
    assert other.exists()
