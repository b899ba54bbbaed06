"""Fetching: robots, rates, limits, private addresses, resuming; against a server of our own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lensctl_training.mining import fetch
from lensctl_training.mining.config import FetchSettings, MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from mining.conftest import as_bytes, picture


class Host:
    """A web server with the images of a page, and some that should not be had."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.robots = b"User-agent: *\nDisallow: /private/\n"
        self.robots_status = 200
        self.busy = 1

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        image = {"Content-Type": "image/png"}
        if path == "/robots.txt":
            return self.robots_status, {"Content-Type": "text/plain"}, self.robots
        if path == "/busy.png" and self.busy:
            self.busy -= 1
            return 429, {"Retry-After": "0"}, b""
        if path == "/moved.png":
            return 302, {"Location": "/1.png"}, b""
        if path == "/evil.png":
            return 302, {"Location": "file:///etc/passwd"}, b""
        if path == "/loop.png":
            return 302, {"Location": "/loop.png"}, b""
        if path == "/page.png":
            return 200, {"Content-Type": "text/html"}, b"<p>no image"
        if path == "/huge.png":
            return 200, image, bytes(300_000)
        if path == "/gone.png":
            return 404, {}, b""
        return 200, image, as_bytes(picture(len(path) + 31 * ord(path[1])))


@pytest.fixture
def host() -> Iterator[tuple[Host, str]]:
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.agents.add(self.headers["User-Agent"])
            status, headers, body = state.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


NAMES = ("1", "2", "busy", "moved", "evil", "loop", "page", "huge", "gone", "private/3")


def run(folder: Path, address: str, *, allow_private: bool = True) -> Funnel:
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    images = "".join(f'<img src="{address}/{name}.png">' for name in NAMES)
    (pages / "a.html").write_text(f"<h1>Images</h1>{images}")
    settings = FetchSettings(
        enabled=True, requests_per_host_per_minute=60_000, allow_private=allow_private, tries=2
    )
    config = MineConfig(fetch=settings, pages=PageLimits(max_image_bytes=200_000))
    return run_pipeline([pages], folder / "out", config, InProcess(), "pages")["fetch"]


def test_what_may_be_fetched_is_and_the_rest_has_a_reason(
    host: tuple[Host, str], tmp_path: Path
) -> None:
    state, address = host
    funnel = run(tmp_path, address)
    assert funnel.left["addresses"] == 4
    assert funnel.lost("addresses") == 0
    assert funnel.rejected["addresses"] == {
        "redirect: address is not http(s)": 1,
        "too many redirects": 1,
        "not an image": 1,
        "image file too large": 1,
        "HTTP status 404": 1,
        "robots.txt forbids it": 1,
    }
    assert state.asked[0] == "/robots.txt"
    assert "/private/3.png" not in state.asked
    assert all(agent.startswith("lensctl/") for agent in state.agents)


def test_a_second_run_asks_for_nothing(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    one = run(tmp_path, address)
    asked = len(state.asked)
    assert run(tmp_path, address).as_json() == one.as_json()
    assert len(state.asked) == asked


def test_unreadable_robots_forbid_everything(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    state.robots_status = 500
    funnel = run(tmp_path, address)
    assert funnel.rejected["addresses"] == {"robots.txt cannot be read": len(NAMES)}
    assert set(state.asked) == {"/robots.txt"}
    state.robots_status = 404
    assert run(tmp_path, address).left["addresses"] == 5  # the host is well again, and has no rules


def test_private_addresses_are_never_asked(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    funnel = run(tmp_path, address, allow_private=False)
    assert funnel.rejected["addresses"] == {"private address": len(NAMES)}
    assert state.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1",
     "0.0.0.0", "192.168.1.1", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
def test_what_is_private(address: str) -> None:
    assert not fetch._is_public(address)


def test_what_is_public() -> None:
    assert fetch._is_public("93.184.216.34")
    assert fetch._is_public("2606:2800:220:1::1")


def test_a_journal_cut_by_a_kill_is_read(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    run(tmp_path, address)
    journal = tmp_path / "out" / "work" / "fetched.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    lost = json.loads(lines[-1])[0]
    journal.write_text("".join(lines[:-1]) + lines[-1][:10])
    state.asked.clear()
    assert run(tmp_path, address).left["addresses"] == 4
    assert set(state.asked) <= {"/robots.txt", lost.removeprefix(address), "/1.png"}
