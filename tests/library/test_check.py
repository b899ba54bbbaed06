"""`check --repair` on libraries that disks, kills and other processes have damaged."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from lensctl.errors import LibraryBusyError
from lensctl.library import vectors
from lensctl.library.check import check, repair
from lensctl.library.session import open_session


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


def test_a_damaged_database_gives_what_can_be_read_and_the_next_run_the_rest(
    photos, library, index
):
    index(photos)
    before = _paths(library)
    _damage(library.catalog_path)
    assert check(library)
    (done,) = (line for line in repair(library) if "new database" in line)
    assert len(list(library.folder.glob("catalog.damaged-*.sqlite"))) == 1, done
    assert check(library) == []
    index(photos)
    assert _paths(library) == before


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
