"""Downloads from a server that drops, lies and changes its mind."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lensctl.errors import CheckpointError, DownloadError, ModelError, StorageError, UsageError
from lensctl.models.convert.pull import pull
from lensctl.models.registry import open_model
from lensctl.net import Download, download
from support.official_checkpoint import SMALL, random_arrays, write_checkpoint

BODY = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Behaviour:
    """What the server does; requests are kept as (path, Range header)."""

    body: bytes = BODY
    etag: str = '"one"'
    drop_after: int = 0
    drops: int = 0
    announce: int | None = None
    ranges: bool = True
    status: int = 0
    failures: int = 0
    chunked: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        does = self.behaviour
        asked = self.headers.get("Range", "")
        does.requests.append((self.path, asked))
        self.close_connection = True
        if does.failures > 0:
            does.failures -= 1
            self.send_error(does.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if does.ranges and start >= len(does.body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(does.body)}")
            self.end_headers()
            return
        if not does.ranges or self.headers.get("If-Range", does.etag) != does.etag:
            start = 0
        self._send(does, start)

    def _send(self, does: Behaviour, start: int) -> None:
        rest = does.body[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(does.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(does.body)}")
        if does.etag:
            self.send_header("ETag", does.etag)
        if does.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            announced = len(rest) if does.announce is None else does.announce
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        if does.drops > 0:
            does.drops -= 1
            rest = rest[: does.drop_after]
        if does.chunked:
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/weights.pkl", behaviour
        running.shutdown()


def _wanted(url: str, folder: Path, **options: object) -> Download:
    return Download(url, folder / "weights.pkl", pause=0.001, **options)  # type: ignore[arg-type]


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_whole(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, _ = server
    seen: list[tuple[int, int | None]] = []
    wanted = _wanted(url, tmp_path, sha256=SHA256)
    path = download(wanted, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert _leftovers(tmp_path) == ["weights.pkl"]


def test_dropped_connections_are_resumed(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.drops, does.drop_after = 8, 100_000
    path = download(_wanted(url, tmp_path, sha256=SHA256))
    assert path.read_bytes() == BODY
    starts = [asked for _, asked in does.requests]
    assert starts[:3] == ["", "bytes=100000-", "bytes=200000-"]
    assert len(starts) == 9


def test_a_later_run_goes_on(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.drops, does.drop_after = 1, 300_000
    does.failures = 0
    with pytest.raises(DownloadError):
        _download_once_then_refuse(url, does, tmp_path)
    does.failures = 0
    does.requests.clear()
    assert download(_wanted(url, tmp_path)).read_bytes() == BODY
    assert does.requests[0][1] == "bytes=300000-"


def _download_once_then_refuse(url: str, does: Behaviour, folder: Path) -> None:
    def refuse(done: int, _total: int | None) -> None:
        if done == 300_000:
            does.status, does.failures = 404, 1

    download(_wanted(url, folder), refuse)


def test_a_changed_file_starts_anew(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.drops, does.drop_after = 1, 300_000
    with pytest.raises(DownloadError):
        _download_once_then_refuse(url, does, tmp_path)
    does.failures, does.body, does.etag = 0, BODY[::-1], '"two"'
    assert download(_wanted(url, tmp_path)).read_bytes() == BODY[::-1]


def test_no_range_support_starts_anew(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.drops, does.drop_after, does.ranges = 2, 300_000, False
    assert download(_wanted(url, tmp_path)).read_bytes() == BODY


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_version_it_starts_anew(
    etag: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, does = server
    does.drops, does.drop_after, does.etag = 1, 300_000, etag
    assert download(_wanted(url, tmp_path)).read_bytes() == BODY
    assert [asked for _, asked in does.requests] == ["", ""]


def test_without_a_length(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.chunked = True
    assert download(_wanted(url, tmp_path, sha256=SHA256)).read_bytes() == BODY


def test_a_length_that_is_too_long(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.announce, does.ranges = len(BODY) + 10, False
    with pytest.raises(DownloadError) as refusal:
        download(_wanted(url, tmp_path))
    assert "attempts failed" in refusal.value.why
    assert "weights.pkl" not in _leftovers(tmp_path)


def test_a_length_that_is_too_short(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.announce = 1000
    with pytest.raises(DownloadError, match="could not download"):
        download(_wanted(url, tmp_path, sha256=SHA256))
    assert _leftovers(tmp_path) == ["weights.pkl.part.json"]


def test_what_no_disk_could_hold_is_not_begun(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, does = server
    does.announce = 10**18
    with pytest.raises(StorageError, match=r"no room for weights\.pkl"):
        download(_wanted(url, tmp_path, max_bytes=10**19))
    assert len(does.requests) == 1


def test_wrong_bytes(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.body = BODY[:-1] + b"?"
    with pytest.raises(DownloadError) as refusal:
        download(_wanted(url, tmp_path, sha256=SHA256))
    assert "sha256" in refusal.value.why
    assert "weights.pkl" not in _leftovers(tmp_path)
    assert "weights.pkl.part" not in _leftovers(tmp_path)


@pytest.mark.parametrize("chunked", [True, False])
def test_more_than_allowed(chunked: bool, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.chunked = chunked
    with pytest.raises(DownloadError) as refusal:
        download(_wanted(url, tmp_path, max_bytes=1000))
    assert "1000" in refusal.value.why


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(
    status: int, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, does = server
    does.status, does.failures = status, 2
    assert download(_wanted(url, tmp_path)).read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(status: int, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, does = server
    does.status, does.failures = status, 99
    with pytest.raises(DownloadError) as refusal:
        download(_wanted(url, tmp_path))
    assert str(status) in refusal.value.why
    assert len(does.requests) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as refusal:
        download(_wanted("http://127.0.0.1:9/weights.pkl", tmp_path))
    assert "attempts failed" in refusal.value.why


def test_proxies_are_honoured(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, does = server
    monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/weights.pkl"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    far = "http://models.example/weights.pkl"
    assert download(_wanted(far, tmp_path)).read_bytes() == BODY
    assert does.requests[0][0] == far


@pytest.fixture
def models_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_pull_converts(server: tuple[str, Behaviour], models_home: Path, tmp_path: Path) -> None:
    url, does = server
    does.body = write_checkpoint(tmp_path / "w", random_arrays(SMALL)).read_bytes()
    does.drops, does.drop_after = 2, 1_000_000
    folder = pull(url, name="mine")
    assert folder.path == models_home / "mine"
    assert open_model("mine").info == folder.info
    assert folder.info.source == f"{url}, sha256 {hashlib.sha256(does.body).hexdigest()}"
    assert [path.name for path in models_home.iterdir()] == ["mine"]
    with pytest.raises(ModelError, match="already"):
        pull(url, name="mine")


def test_pull_refuses_what_is_no_model(server: tuple[str, Behaviour], models_home: Path) -> None:
    url, _ = server
    with pytest.raises(CheckpointError):
        pull(url, name="mine")
    assert not (models_home / "mine").exists()


def test_what_had_arrived_whole_is_not_fetched_again(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, does = server
    wanted = _wanted(url, tmp_path, sha256=SHA256)
    download(wanted)
    wanted.target.rename(wanted.part)
    wanted.origin.write_text(json.dumps({"url": url, "version": does.etag}))
    assert download(wanted).read_bytes() == BODY
    assert [asked for _, asked in does.requests] == ["", f"bytes={len(BODY)}-"]
    wanted.target.rename(wanted.part)
    wanted.part.write_bytes(BODY + b"more")
    wanted.origin.write_text(json.dumps({"url": url, "version": does.etag}))
    assert download(wanted).read_bytes() == BODY
    assert does.requests[-1] == ("/weights.pkl", "")


def test_a_file_of_another_hash_is_not_converted(
    server: tuple[str, Behaviour], models_home: Path, tmp_path: Path
) -> None:
    url, does = server
    checkpoint = write_checkpoint(tmp_path / "w", random_arrays(SMALL))
    does.body = checkpoint.read_bytes()
    for what in (url, str(checkpoint)):
        pull(url, name="first", keep_download=True, overwrite=True)
        with pytest.raises((CheckpointError, DownloadError)) as refusal:
            pull(what, name="mine", sha256="0" * 64)
        assert "expected " + "0" * 64 in refusal.value.why
        assert not (models_home / "mine").exists()
    with pytest.raises(CheckpointError):
        pull(url, name="first", sha256="0" * 64, overwrite=True)
    assert pull(checkpoint.as_posix(), name="mine", sha256=_digest(does.body).upper())


def test_a_kept_download_is_of_its_address_alone(
    server: tuple[str, Behaviour], models_home: Path, tmp_path: Path
) -> None:
    url, does = server
    does.body = write_checkpoint(tmp_path / "w", random_arrays(SMALL)).read_bytes()
    pull(url, name="mine", keep_download=True)
    pull(url, name="mine", keep_download=True, overwrite=True)
    assert len(does.requests) == 1
    other = url.replace("/weights", "/other/weights")
    assert pull(other, name="mine", overwrite=True).info.source.startswith(other)
    assert does.requests[1][0] == "/other/weights.pkl"


@pytest.mark.parametrize(
    "path",
    [
        "/x/..%2F..%2F..%2F..%2Fkeep.pkl",
        "/%2e%2e",
        "/..%2f..%2f..",
        "/a%00b.pkl",
        "/",
        "/" + "%C3%A9" * 200 + ".pkl",
    ],
)
def test_an_address_writes_nowhere_else(
    path: str, server: tuple[str, Behaviour], models_home: Path, tmp_path: Path
) -> None:
    url, does = server
    does.body = write_checkpoint(tmp_path / "w", random_arrays(SMALL)).read_bytes()
    for place in (models_home, tmp_path):
        place.mkdir(exist_ok=True)
        (place / "keep.pkl").write_bytes(b"mine")
    before = {one.name for one in tmp_path.iterdir()}
    folder = pull(url.replace("/weights.pkl", path), name="mine")
    assert open_model("mine").info == folder.info
    assert {one.name for one in tmp_path.iterdir()} == before
    assert all((place / "keep.pkl").read_bytes() == b"mine" for place in (models_home, tmp_path))


def test_an_address_may_name_any_place_of_the_disk(
    server: tuple[str, Behaviour], models_home: Path, tmp_path: Path
) -> None:
    url, does = server
    does.body = write_checkpoint(tmp_path / "w", random_arrays(SMALL)).read_bytes()
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"mine")
    pull(url.replace("/weights.pkl", "/" + str(photo).replace("/", "%2F")), name="mine")
    assert photo.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "url",
    ["http://[::1/x.pkl", "http:///x.pkl", "http://models.example:99999/x.pkl", "https://:80/x"],
)
def test_what_is_no_address_is_refused_at_once(url: str, models_home: Path) -> None:
    with pytest.raises(UsageError, match="cannot download") as refusal:
        pull(url, name="mine")
    assert refusal.value.why and not models_home.exists()


def test_no_model_takes_the_embedded_name(
    server: tuple[str, Behaviour], models_home: Path, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "w", random_arrays(SMALL))
    for what in (server[0], str(checkpoint)):
        with pytest.raises(UsageError, match="the embedded model"):
            pull(what, name="mini")
    assert server[1].requests == []
    assert not (models_home / "mini").exists()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("what", ["nosuch", "ftp://models.example/w.pkl", "open_clip:nosuch/tag"])
def test_pull_of_the_unknown(what: str, models_home: Path) -> None:
    with pytest.raises(UsageError):
        pull(what)
    assert not models_home.exists()
