"""WARC files: the same triplets as from a folder, and files that lie."""

import gzip
import io
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from lensctl_training.mining.config import MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.sources import url_of
from lensctl_training.mining.warc import read_warc
from lensctl_training.mining.workspace import Workspace
from lensctl_training.mining.write import instructed_rows
from mining.conftest import as_bytes, page, picture

_TYPES = {".html": "text/html", ".png": "image/png"}


def add(writer: WARCWriter, url: str, media_type: str, body: bytes, **headers: str) -> None:
    fields = [("Content-Type", media_type), *((k.replace("_", "-"), v) for k, v in headers.items())]
    status = StatusAndHeaders("200 OK", fields, protocol="HTTP/1.1")
    record = writer.create_warc_record(url, "response", io.BytesIO(body), http_headers=status)
    writer.write_record(record)


def pack(folder: Path, warc: Path, base: str) -> None:
    """The files of a folder as responses, as if they had been crawled at `base`."""
    with warc.open("wb") as stream:
        writer = WARCWriter(stream, gzip=warc.suffix == ".gz")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                url = url_of(base, str(path.relative_to(folder)))
                add(writer, url, _TYPES[path.suffix], path.read_bytes())


def triplets(out: Path) -> set[tuple[str, str, str, str]]:
    return {
        (row.pair.key, row.pair.query.url, row.pair.target.url, row.instruction)
        for row in instructed_rows(Workspace(out))
    }


@pytest.mark.usefixtures("stub")
def test_a_folder_packed_as_warc_gives_the_same_triplets(handbook: Path, tmp_path: Path) -> None:
    warc = tmp_path / "crawl.warc.gz"
    pack(handbook, warc, "http://handbook.invalid/")
    listing = tmp_path / "crawl.paths"
    listing.write_text("crawl.warc.gz\n")
    for name, source in (("folder", handbook), ("warc", warc), ("listed", listing)):
        run_pipeline([source], tmp_path / name, MineConfig(), InProcess())
    assert len(triplets(tmp_path / "folder")) >= 20
    assert triplets(tmp_path / "folder") == triplets(tmp_path / "warc")
    assert triplets(tmp_path / "folder") == triplets(tmp_path / "listed")


def read(path: Path, limits: PageLimits | None = None) -> tuple[list[str], Funnel]:
    funnel = Funnel()
    return [record.url for record in read_warc(path, limits or PageLimits(), funnel)], funnel


def good_warc(path: Path, count: int = 3) -> Path:
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=False)
        for number in range(count):
            html = page("Cartoon", number).encode()
            add(writer, f"http://a.example/{number}", "text/html; charset=utf-8", html)
    return path


def test_a_length_that_lies_ends_the_file_not_the_run(tmp_path: Path) -> None:
    data = good_warc(tmp_path / "a.warc").read_bytes()
    first = data.index(b"Content-Length: ") + len(b"Content-Length: ")
    for lie in (b"99999999999999999999", b"7", b"-5", b"many"):
        path = tmp_path / "lie.warc"
        end = data.index(b"\r\n", first)
        path.write_bytes(data[:first] + lie + data[end:])
        urls, _ = read(path)
        assert len(urls) <= 3


def test_every_cut_of_a_warc_is_survived(tmp_path: Path) -> None:
    data = good_warc(tmp_path / "a.warc").read_bytes()
    packed = gzip.compress(data)
    for kind, whole in ((".warc", data), (".warc.gz", packed)):
        path = tmp_path / f"cut{kind}"
        for size in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:size])
            urls, _ = read(path)
            assert len(urls) <= 3


def test_a_file_that_unpacks_to_too_much_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensctl_training.mining.warc._LEAST_BUDGET", 5 * 2**20)
    path = tmp_path / "bomb.warc.gz"
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for number in range(6):
            add(writer, f"http://a.example/{number}", "video/mp4", bytes(2 * 2**20))
    urls, funnel = read(path)
    assert urls == []
    assert funnel.rejected["files"] == {"WARC unpacks to more than it may": 1}
    assert funnel.entered["records"] < 6


def test_a_compressed_body_that_unpacks_to_too_much_is_left(tmp_path: Path) -> None:
    path = tmp_path / "bomb.warc"
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=False)
        bomb = gzip.compress(b"<p>" + bytes(30 * 2**20))
        add(writer, "http://a.example/", "text/html", bomb, Content_Encoding="gzip")
        add(writer, "http://a.example/2", "text/html", b"<img src=x.png>")
    urls, funnel = read(path)
    assert urls == ["http://a.example/2"]
    assert funnel.rejected["records"] == {"page too large": 1}


def test_what_is_no_page_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "mixed.warc.gz"
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        writer.write_record(writer.create_warcinfo_record("x.warc", {"software": "test"}))
        add(writer, "http://a.example/a.pdf", "application/pdf", b"%PDF")
        add(writer, "http://a.example/a.png", "image/png", as_bytes(picture(1)))
        gone = StatusAndHeaders("404 Not Found", [("Content-Type", "text/html")], "HTTP/1.1")
        record = writer.create_warc_record(
            "http://a.example/gone", "response", io.BytesIO(b"<p>"), http_headers=gone
        )
        writer.write_record(record)
    urls, funnel = read(path)
    assert urls == ["http://a.example/a.png"]
    assert funnel.rejected["records"] == {
        "a warcinfo record": 1,
        "neither HTML nor an image": 1,
        "HTTP status is not 200": 1,
    }
    assert funnel.lost("records") == 0
