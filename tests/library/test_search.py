"""Searching: right answers, whatever state the search files are in."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.errors import DependencyError, NoLibraryError
from lensctl.library.filters import Circle, Filters, parse_date, parse_format
from lensctl.library.hnsw import Graph
from lensctl.library.session import open_session
from lensctl.library.vectors import (
    Header,
    SearchFile,
    cosines_of,
    near_cosines,
    pack_rows,
    top_rows,
)
from support.colour_model import ColourModel
from support.photo_files import write_photo


def plain(path: Path, colour: tuple[int, int, int], **save: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path, **save)
    return path


def found(library, model, *, text=None, photo=None, words="", mode="auto", count=10, **options):
    with open_session(library, model, mode=mode) as session:
        question = session.ask_text(text) if text else session.ask_photo(photo, words)
        return [
            (Path(os.fsdecode(one.facts.path)).name, round(one.cosine, 5))
            for one in session.find(question, count, **options)
        ]


def names(*args, **kwargs):
    return [name for name, _ in found(*args, **kwargs)]


@pytest.fixture
def coloured(photos, index):
    plain(photos / "red.png", (250, 0, 0))
    plain(photos / "green.png", (0, 250, 0))
    plain(photos / "blue.png", (0, 0, 250))
    index(photos)
    return photos


def test_words_find_the_colour(coloured, library, model):
    for colour in ("red", "green", "blue"):
        assert names(library, model, text=colour, count=1) == [f"{colour}.png"]


def test_photo_finds_its_like_and_not_itself(coloured, library, model, index):
    plain(coloured / "nearly-red.png", (240, 5, 0))
    index(coloured)
    red = coloured / "red.png"
    assert names(library, model, photo=red, count=1) == ["nearly-red.png"]
    assert names(library, model, photo=red, count=1, include_self=True) == ["red.png"]


def test_instruction_changes_the_answer(coloured, library, model):
    assert names(library, model, photo=coloured / "red.png", words="blue blue", count=1) == [
        "blue.png"
    ]


def test_known_photo_is_not_decoded_again(coloured, library, model, tmp_path):
    encoded = model.encoded
    names(library, model, photo=coloured / "red.png")
    shutil.copyfile(coloured / "red.png", tmp_path / "outside-copy.png")
    names(library, model, photo=tmp_path / "outside-copy.png")
    assert model.encoded == encoded
    names(library, model, photo=plain(tmp_path / "stranger.png", (1, 2, 3)))
    assert model.encoded == encoded + 1


def test_copies_are_shown_once_with_a_count(coloured, library, model, index):
    shutil.copyfile(coloured / "red.png", coloured / "a" / "red-copy.png")
    index(coloured)
    with open_session(library, model) as session:
        matches = session.find(session.ask_text("red"), 3)
    assert [one.facts.copies for one in matches] == [2, 1, 1]
    assert matches[0].facts.path.endswith(b"a/red-copy.png")


def test_count_is_filled_whenever_enough_photos_exist(coloured, library, model):
    assert len(names(library, model, text="red", count=15)) == 15
    assert len(names(library, model, text="red", count=99)) == 15
    folder = Filters(folders=(os.fsencode(coloured / "b"),))
    assert len(names(library, model, text="red", count=6, filters=folder)) == 6


def test_photos_that_may_not_be_shown_do_not_use_up_the_count(coloured, library, model, index):
    for number in range(150):
        plain(coloured / "many" / f"{number}.png", (250, number % 16, number // 16))
    index(coloured)
    index(coloured, exclude=("many",))
    for mode in ("exact", "hnsw"):
        assert names(library, model, text="red", count=3, mode=mode)[0] == "red.png"


def test_excluded_photos_are_not_found(coloured, library, model, index):
    index(coloured, exclude=("red.png",))
    assert "red.png" not in names(library, model, text="red", count=15)


def test_exact_and_hnsw_agree(coloured, library, model):
    exact = found(library, model, text="red", mode="exact")
    assert found(library, model, text="red", mode="hnsw") == exact
    assert found(library, model, text="red", mode="hnsw") == exact


def test_without_hnswlib_only_the_graph_is_refused(coloured, library, model, monkeypatch):
    exact = found(library, model, text="red")
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    assert found(library, model, text="red") == exact
    with pytest.raises(DependencyError, match="a graph cannot be searched"):
        found(library, model, text="red", mode="hnsw")


def vector_files(library):
    files = [one for one in library.search_folder.iterdir() if one.is_file()]
    assert len(files) >= 4
    return files


DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size * 2 // 3),
    "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "one byte": lambda path: _flip_last_byte(path),
    "garbage rows, old time": lambda path: _garble_rows_keeping_time(path),
}


def _flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    path.write_bytes(data)


def _garble_rows_keeping_time(path: Path) -> None:
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + os.urandom(len(data) - 4096) if len(data) > 4096 else data)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mode", ["exact", "hnsw"])
def test_damaged_search_files_change_no_answer(coloured, library, model, damage, mode):
    questions = [{"text": "red"}, {"photo": coloured / "blue.png", "words": "green"}]
    before = [found(library, model, mode="hnsw", **question) for question in questions]
    for path in vector_files(library):
        DAMAGE[damage](path)
    after = [found(library, model, mode=mode, **question) for question in questions]
    assert after == before


def test_search_files_follow_the_catalog_without_the_indexer(coloured, library, model, index):
    names(library, model, text="red")
    old = {one.name: one.read_bytes() for one in library.search_folder.glob("*.vec")}
    plain(coloured / "pure-red.png", (255, 0, 0))
    index(coloured)
    for name, data in old.items():
        (library.search_folder / name).write_bytes(data)
    assert "pure-red.png" in names(library, model, text="red", count=2)


def test_rows_are_on_the_disk_before_a_header_counts_them(coloured, library, model, monkeypatch):
    library.drop_search_files()
    synced, fsync = [], os.fsync

    def note_and_sync(descriptor):
        fsync(descriptor)
        with Path(f"/proc/self/fd/{descriptor}").open("rb") as file:
            header = Header.unpack(file.read(4096))
            rows = os.fstat(descriptor).st_size - header.file_bytes
        synced.append((header.rows, rows // header.row_bytes))

    monkeypatch.setattr(os, "fsync", note_and_sync)
    names(library, model, photo=coloured / "red.png")
    assert synced == [(0, 15)]
    names(library, model, text="red")
    assert synced == [(0, 15)] * 2


def test_words_are_compared_with_the_vectors_of_one_model(coloured, library, model, index):
    class Inverted(ColourModel):
        def encode_images(self, pixels):
            return 1.02 - super().encode_images(pixels)

    before = found(library, model, text="red", count=99)
    index(coloured, using=Inverted("other", encoder="e2", lens="l2"))
    library.drop_search_files()
    assert found(library, model, text="red", count=99) == before


def test_a_long_session_finds_photos_that_are_indexed_meanwhile(coloured, library, model, index):
    with open_session(library, model) as session:
        assert len(session.find(session.ask_text("red"), 99)) == 15
        write_photo(coloured / "new.png", 100)
        index(coloured)
        assert len(session.find(session.ask_text("red"), 99)) == 16


def test_of_copies_the_one_in_the_folder_asked_for_is_shown(coloured, library, model, index):
    shutil.copyfile(coloured / "red.png", coloured / "a" / "red.png")
    shutil.copyfile(coloured / "red.png", coloured / "b" / "z.png")
    index(coloured)
    folder = Filters(folders=(os.fsencode(coloured / "b"),))
    assert names(library, model, text="red", count=1) == ["red.png"]
    assert names(library, model, text="red", count=1, filters=folder) == ["z.png"]


def test_of_copies_one_that_can_be_opened_is_shown(photos, library, model, index):
    plain(photos / "a" / "red.png", (250, 0, 0))
    shutil.copyfile(photos / "a" / "red.png", photos / "b" / "copy.png")
    index(photos / "a", photos / "b")
    (photos / "a").rename(photos / "away")
    index()
    assert names(library, model, text="red", count=1) == ["copy.png"]


def test_forgotten_photos_leave_no_vector_behind(coloured, library, model):
    with library.writing() as recorder:
        assert recorder.forget_photos(os.fsencode(coloured / "red.png")) == 1
    library.drop_search_files()
    assert names(library, model, text="red", count=20).count("red.png") == 0
    with library.reading() as catalog:
        for table in ("contents", "embeddings", "targets"):
            assert catalog.connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (14,)


def test_the_work_to_describe_a_photo_grows_as_its_copies_do(photos, library, index):
    index(photos)
    steps = {}
    for copies in (300, 600):
        with library.writing() as recorder:
            recorder.connection.executemany(
                "INSERT OR IGNORE INTO photos SELECT NULL, root_id, CAST(? AS BLOB), size,"
                " mtime_ns, device, inode, content_id, state, error FROM photos"
                " WHERE content_id = 1 LIMIT 1",
                [(f"/copies/{number:03}.png",) for number in range(copies - 1)],
            )
        with library.reading() as catalog:
            told = []
            catalog.connection.set_progress_handler(lambda told=told: told.append(1), 100)
            facts = catalog.describe([1])[1]
        assert (facts.copies, facts.path) == (copies, b"/copies/000.png")
        steps[copies] = len(told)
    assert 100 < steps[600] < 3 * steps[300]


def test_relocated_folder_is_found_at_its_new_place(coloured, library, model, index):
    moved = coloured.rename(coloured.with_name("moved"))
    with library.writing() as recorder:
        recorder.relocate(os.fsencode(coloured), os.fsencode(moved))
    encoded = model.encoded
    summary = index(moved)
    assert (summary.encoded, summary.linked, summary.gone) == (0, 0, 0)
    assert model.encoded == encoded
    assert (moved / "red.png").exists()
    assert names(library, model, text="red", count=1) == ["red.png"]


READ_ONLY = """
import os, sys
from pathlib import Path
import errno, mmap, tempfile, lensctl.library.hnsw, lensctl.photos.decode, lensctl.photos.reader
from lensctl.library.library import Library
from lensctl.library.session import open_session
from support.colour_model import ColourModel
os.setuid(65534)
with open_session(Library(Path(sys.argv[1])), ColourModel()) as session:
    for match in session.find(session.ask_text("red"), 10):
        print(Path(os.fsdecode(match.facts.path)).name, round(match.cosine, 5))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("search_files", ["there", "missing"])
def test_library_that_may_not_be_written_is_searched(coloured, library, model, search_files):
    expected = found(library, model, text="red")
    if search_files == "missing":
        library.drop_search_files()
    assert _as_nobody(library) == expected


def _as_nobody(library) -> list[tuple[str, float]]:
    """What a user who may read the library and not write to it finds for "red"."""
    for folder in (*library.folder.parents, library.folder, library.search_folder):
        if folder.owner() == "root" and folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, library.folder],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = [line.rsplit(" ", 1) for line in done.stdout.decode().splitlines()]
    return [(name, float(cosine)) for name, cosine in told]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("writer", ["at work", "killed"])
def test_who_may_not_write_reads_what_is_in_the_log(coloured, library, model, writer):
    """The log of a catalog that is being written holds photos that its file does not."""
    added = coloured.parent / "log-only.png"

    def rename() -> None:
        recorder.connection.execute(
            "UPDATE photos SET path = ? WHERE CAST(path AS TEXT) LIKE '%red.png'",
            (os.fsencode(added),),
        )

    if writer == "killed":
        child = os.fork()
        if child == 0:
            with library.writing() as recorder:
                rename()
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        told = _as_nobody(library)
    else:
        with library.writing() as recorder:
            rename()
            told = _as_nobody(library)
    assert told[0][0] == "log-only.png"


def exif_photo(path, seed, *, taken=None, camera=None, place=None):
    write_photo(path, seed)
    image = Image.open(path)
    exif = image.getexif()
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if camera:
        exif[0x010F], exif[0x0110] = camera.encode().split(b" ", 1)  # str would be ASCII
    if place:
        gps = exif.get_ifd(0x8825)
        gps[1], gps[2] = "N", (abs(place[0]), 0.0, 0.0)
        gps[3], gps[4] = "EW"[place[1] < 0], (abs(place[1]), 0.0, 0.0)
    image.save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()


@pytest.fixture
def documented(photos, index):
    lisbon, porto = (38.72, -9.14), (41.15, -8.61)
    maple, olympus = "ÉRABLE 7", "OLYMPUS IMAGING CORP. E-M1"
    shot = "2024:07:01 10:00:00", "2023:01:05 08:30:00", "2024:12:31 23:59:59"
    exif_photo(photos / "lisbon.png", 201, taken=shot[0], place=lisbon, camera=maple)
    exif_photo(photos / "porto.png", 202, taken=shot[1], place=porto, camera=olympus)
    exif_photo(photos / "nikon.png", 203, taken=shot[2], camera="NIKON Z6")
    index(photos)
    return photos


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(after="2024"), {"lisbon.jpg", "nikon.jpg"}),
        (Filters(before=parse_date("2024")), {"porto.jpg"}),
        (Filters(after="2024-07-01", before="2024-12-31"), {"lisbon.jpg"}),
        (Filters(camera="nikon z6"), {"nikon.jpg"}),
        (Filters(camera=" z6 Nikon "), {"nikon.jpg"}),
        (Filters(camera="ikon"), {"nikon.jpg"}),
        (Filters(camera="nikon canon"), set()),
        (Filters(camera="olympus e-m1"), {"porto.jpg"}),
        (Filters(camera="érable"), {"lisbon.jpg"}),
        (Filters(near=(Circle(38.7, -9.1, 30),)), {"lisbon.jpg"}),
        (Filters(near=(Circle(40, -9, 200),)), {"lisbon.jpg", "porto.jpg"}),
        (Filters(near=(Circle(38.7, -9.1, 9), Circle(41, -8, 99))), {"lisbon.jpg", "porto.jpg"}),
        (Filters(formats=parse_format("jpg")), {"lisbon.jpg", "porto.jpg", "nikon.jpg"}),
        (Filters(formats=parse_format("jpg"), after="2024", camera="canon"), set()),
    ],
)
def test_filters(documented, library, model, filters, expected):
    assert set(names(library, model, text="red", count=20, filters=filters)) == expected


def test_filters_on_many_photos_take_the_ranking_way(documented, library, model, monkeypatch):
    import lensctl.library.search as search

    filters = Filters(formats=("PNG",))
    gathered = found(library, model, text="red", count=20, filters=filters)
    monkeypatch.setattr(search, "_GATHER", 0)
    assert found(library, model, text="red", count=20, filters=filters) == gathered


def test_min_relevance_cuts(coloured, library, model):
    with open_session(library, model) as session:
        question = session.ask_photo(coloured / "red.png")
        everything = session.find(question, 20)
        cut = everything[3].relevance
        kept = session.find(question, 20, min_relevance=cut)
    assert kept == [one for one in everything if one.relevance >= cut]
    assert all(0 <= one.relevance <= 1 for one in everything)


def clustered_rows(count: int, dim: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count // 100, dim))
    rows = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")


def search_file_of(rows: np.ndarray, path: Path) -> SearchFile:
    header = Header("lens", "target", rows.shape[1], len(rows), 0, len(rows), 0, 0)
    path.write_bytes(header.pack() + pack_rows(np.arange(len(rows)) + 1000, rows))
    return SearchFile(path, header)


def test_candidates_of_codes_and_of_the_graph_hold_the_nearest(tmp_path):
    """The ten nearest of 20,000 rows are among the candidates that are then scored exactly."""
    rows = clustered_rows(20_000)
    file = search_file_of(rows, tmp_path / "rows.vec")
    graph = Graph(file)
    by_codes = by_graph = 0
    for query in rows[:: len(rows) // 100]:
        best = {*top_rows(cosines_of(rows, query), 10)}
        by_codes += len({*top_rows(near_cosines(file, query), 120)} & best)
        by_graph += len({*graph.nearest(query, 120)[0]} & best)
    assert by_codes >= 998
    assert by_graph >= 990


def test_top_rows_are_those_of_a_whole_sort():
    rng = np.random.default_rng(0)
    for size in (1, 7, 100, 5000, 40_000):
        for count in (1, 3, 120):
            for digits in (1, 8):  # with one digit nearly all are ties
                cosines = rng.standard_normal(size).round(digits).astype(np.float32)
                cosines[rng.integers(0, size, size // 3)] = -np.inf
                count = min(count, size)
                expected = np.lexsort((np.arange(size), -cosines))[:count]
                found = top_rows(cosines, count)
                assert cosines[found].tolist() == cosines[expected].tolist()
                assert len({*found.tolist()}) == count


def test_codes_keep_ids_and_directions(tmp_path):
    rows = clustered_rows(500) * np.linspace(0.01, 50, 500, dtype=np.float32)[:, None]
    rows[7] = 0
    file = search_file_of(rows, tmp_path / "rows.vec")
    assert file.ids_at(slice(None)).tolist() == list(range(1000, 1500))
    assert file.ids_at(np.array([3, 1])).tolist() == [1003, 1001]
    kept = file.vectors_at(slice(None))
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    assert (kept[7] == 0).all()
    agree = np.einsum("nd,nd->n", kept, unit)
    agree[7] = 1
    assert agree.min() > 0.9998
    query = unit[3]
    assert np.abs(near_cosines(file, query) - unit @ query)[unit.any(axis=1)].max() < 0.01


def test_another_version_of_the_model_is_told_apart_from_no_model(coloured, library):
    for name, told in (("colour", "another version"), ("else", "it holds vectors of colour")):
        stranger = ColourModel(name, encoder="e9", lens="l9")
        with (
            pytest.raises(NoLibraryError) as error,
            open_session(library, stranger),
        ):
            pass
        assert told in "\n".join(error.value.lines())


def test_photos_without_vectors_of_the_model_are_counted(coloured, library, model, index):
    """A model that changed, of which not all folders were encoded again."""
    other = coloured.parent / "other"
    write_photo(other / "one.png", 401)
    write_photo(other / "two.png", 402)
    index(other)
    with open_session(library, model) as session:
        session.find(session.ask_text("red"), 3)
        assert session.unsearched() == 0
    changed = ColourModel(encoder="e2", lens="l2")
    index(other, using=changed)
    with open_session(library, changed) as session:
        session.find(session.ask_text("red"), 3)
        assert session.unsearched() == 15
    with library.reading() as catalog:
        assert catalog.photos_without_target(catalog.newest_lens("colour")) == 15
        assert catalog.newest_lens("else") is None
