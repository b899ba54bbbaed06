"""Fetching: robots, rates, limits, private addresses, resuming; against a server of our own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensctl_training.mining import fetch
from lensctl_training.mining.config import FetchSettings, MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from mining.conftest import as_bytes, picture
from mining.scripted_endpoint import drip, running


class Host:
    """A web server with the images of a page, and some that should not be had."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hosts: list[tuple[str, str]] = []
        self.agents: set[str] = set()
        self.robots = b"User-agent: *\nDisallow: /private/\n"
        self.robots_status = 200
        self.busy = 1
        self.retry_after = "0"
        self.elsewhere = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        image = {"Content-Type": "image/png"}
        if path == "/robots.txt":
            return self.robots_status, {"Content-Type": "text/plain"}, self.robots
        if path == "/busy.png" and self.busy:
            self.busy -= 1
            return 429, {"Retry-After": self.retry_after}, b""
        if path == "/moved.png":
            return 302, {"Location": "/1.png"}, b""
        if path.startswith("/away/"):
            return 302, {"Location": self.elsewhere + path.removeprefix("/away")}, b""
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
            state.hosts.append((self.headers["Host"].partition(":")[0], self.path))
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

    with running(Handler) as address:
        state.elsewhere = address.replace("127.0.0.1", "localhost")
        yield state, address


NAMES = ("1", "2", "busy", "moved", "evil", "loop", "page", "huge", "gone", "private/3")


def write_page(folder: Path, addresses: Iterable[str]) -> Path:
    folder.mkdir(exist_ok=True)
    images = "".join(f'<img src="{address}">' for address in addresses)
    (folder / "a.html").write_text(f"<h1>Images</h1>{images}", encoding="utf-8")
    return folder


def run(folder: Path, address: str, names: Sequence[str] = NAMES, **settings: Any) -> Funnel:
    pages = write_page(folder / "pages", (f"{address}/{name}.png" for name in names))
    chosen = {"requests_per_host_per_minute": 60_000, "allow_private": True, "tries": 2}
    fetching = FetchSettings(enabled=True, **chosen | settings)
    config = MineConfig(fetch=fetching, pages=PageLimits(max_image_bytes=200_000))
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


def test_a_name_that_changes_its_address_once_it_was_checked_gives_nothing(
    host: tuple[Host, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = host
    port = int(address.rpartition(":")[2])
    look_up = socket.getaddrinfo
    asked: list[object] = []

    def rebound(name: str, *arguments: Any, **options: Any) -> Any:
        if name != "rebound.example":
            return look_up(name, *arguments, **options)
        asked.append(name)
        is_first = len(asked) % 2 == 1
        return look_up("93.184.216.34" if is_first else "127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    funnel = run(tmp_path, f"http://rebound.example:{port}", ("1", "2"), allow_private=False)
    assert len(asked) >= 2
    assert funnel.rejected["addresses"] == {"private address": 2}


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


def test_what_follows_a_cut_line_is_kept(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    run(tmp_path, address)
    journal = tmp_path / "out" / "work" / "fetched.jsonl"
    for broken in ("[1]", "3", '{"a": "b"}', "[[1], 2]", '["http://127.0.0.1/'):
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text(lines[0] + broken)
        run(tmp_path, address)
        state.asked.clear()
        run(tmp_path, address)
        assert state.asked == []


def test_a_redirect_asks_the_other_host_by_its_rules(
    host: tuple[Host, str], tmp_path: Path
) -> None:
    state, address = host
    names = ("away/1", "away/private/3", "away/away/2", "1")
    funnel = run(tmp_path, address, names)
    assert funnel.left["addresses"] == 3
    assert funnel.rejected["addresses"] == {"robots.txt forbids it": 1}
    there = [path for name, path in state.hosts if name == "localhost"]
    assert there == ["/robots.txt", "/1.png", "/away/2.png", "/robots.txt", "/2.png"]


def test_a_redirect_on_the_same_host_asks_its_rules(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    state.elsewhere = address
    funnel = run(tmp_path, address, ("away/private/3",))
    assert funnel.rejected["addresses"] == {"robots.txt forbids it": 1}
    assert "/private/3.png" not in state.asked


def test_the_other_host_is_asked_at_its_rate(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    state.robots = b"User-agent: *\nCrawl-delay: 0.3\n"
    started = time.monotonic()
    run(tmp_path, address, ("away/1", "away/2"))
    assert time.monotonic() - started >= 4 * 0.3
    assert len(state.asked) == 6


@pytest.mark.parametrize(("busy", "wait"), [(0, "0"), (1, "900")])
@pytest.mark.timeout(30)
def test_no_host_makes_a_run_wait_for_ever(
    host: tuple[Host, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: int, wait: str
) -> None:
    state, address = host
    monkeypatch.setattr(fetch, "_LONGEST_DELAY_S", 0.1)
    state.robots = b"User-agent: *\nCrawl-delay: 900\n"
    state.busy, state.retry_after = busy, wait
    assert run(tmp_path, address, ("1", "busy")).left["addresses"] == 2


def test_a_busy_host_is_given_the_time_that_it_asks_for(
    host: tuple[Host, str], tmp_path: Path
) -> None:
    state, address = host
    state.retry_after = "2"
    started = time.monotonic()
    assert run(tmp_path, address, ("busy",)).left["addresses"] == 1
    assert time.monotonic() - started >= 2


def test_an_address_that_cannot_be_asked_is_refused_alone(
    host: tuple[Host, str], tmp_path: Path
) -> None:
    _, address = host
    funnel = run(tmp_path, "http://\N{SNOWMAN}.net", ("a", "b"))
    assert funnel.rejected["addresses"] == {"malformed address": 2}
    assert run(tmp_path, address, ("1",)).left["addresses"] == 1


@pytest.mark.parametrize("headers", [False, True], ids=["body", "headers"])
def test_an_answer_that_drips_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: bool
) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_ANSWER", 1)
    with drip(bytes(200), every_s=0.1, headers=headers) as address:
        started = time.monotonic()
        funnel = run(tmp_path, address, ("1",), timeout_s=0.5, tries=1)
        assert time.monotonic() - started < 10
    assert funnel.rejected["addresses"] == {"robots.txt cannot be read": 1}


def test_stopping_hangs_up(tmp_path: Path) -> None:
    """Within the time that an answer may take."""
    with drip(bytes(200), every_s=0.1, headers=True) as address, httpx.Client() as client:
        settings = FetchSettings(allow_private=True, tries=3)
        fetcher = fetch._Fetcher(client, settings, most=999)
        stop = threading.Timer(1.0, fetcher.stop)
        stop.start()
        started = time.monotonic()
        assert list(fetcher.visit({address: f"{address}/1.png"}, lambda data: "")) == []
        assert time.monotonic() - started < 5


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a process group")
def test_ctrl_c_ends_fetching(host: tuple[Host, str], tmp_path: Path) -> None:
    state, address = host
    pages = write_page(tmp_path / "pages", (f"{address}/{n}.png" for n in range(60)))
    config = tmp_path / "mine.toml"
    config.write_text("[fetch]\nallow_private = true\nrequests_per_host_per_minute = 120\n")
    command = ["mine", "pages", pages, "--out", tmp_path / "out", "--config", config, "--fetch"]
    with subprocess.Popen(
        [sys.executable, "-m", "lensctl", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            end = time.monotonic() + 60
            while len(state.asked) < 3:
                assert time.monotonic() < end
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(state.asked) < 10
    assert (tmp_path / "out" / "work" / "fetched.jsonl").read_text().count("\n") >= 1
