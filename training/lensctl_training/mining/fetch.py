"""Images that pages name and the input does not hold, fetched politely. Only with --fetch.

One host is asked by one thread, at a bounded rate, after its robots.txt; so is the host that a
redirect leads to. Addresses that lead to private networks are refused before connecting and again
once connected, so that a page cannot make us talk to the machine's own neighbourhood.
"""

import contextlib
import ipaddress
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies
from weakref import WeakValueDictionary

import httpx
from protego import Protego

from lensctl.net import http_client
from lensctl_training.json_lines import append_lines, read_lines
from lensctl_training.mining.config import FetchSettings, MineConfig
from lensctl_training.mining.endpoint import retry_after
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.image_table import ImageTable
from lensctl_training.mining.pages import IMAGES, read_pages
from lensctl_training.mining.records import Page
from lensctl_training.mining.urls import absolute
from lensctl_training.mining.workspace import Workspace, digest

AGENT = "lensctl"
_MOST_REDIRECTS = 5
_ROBOTS_BYTES = 512 * 1024
_LONGEST_DELAY_S = 60.0
_LONGEST_ANSWER = 10
"""How many times `timeout_s`, which bounds a single wait, a whole answer may take."""
_TRY_AGAIN = frozenset([408, 425, 429, 500, 502, 503, 504])
_PASSING = ("host does not answer", "robots.txt cannot be read")
_MOVED = "moved"


class RefusedError(Exception):
    """An address that is not fetched; the message is the reason. Never leaves this module."""


def fetch_missing(workspace: Workspace, config: MineConfig) -> Funnel:
    """Fetch what is missing; what an earlier run settled is not asked again.

    Makes the part "all" of the stage *fetch*: address -> SHA-256 or reason.
    """
    wanted = list(_wanted(workspace))
    settled = _Journal(workspace.folder / "fetched.jsonl")
    todo = [url for url in wanted if url not in settled.outcomes]
    _fetch_all(todo, workspace, config, settled)
    outcomes = {url: settled.outcomes.get(url, _PASSING[0]) for url in wanted}

    def write(out: Path) -> Funnel:
        funnel = Funnel()
        with (out / IMAGES).open("w", encoding="utf-8") as file:
            for url, outcome in outcomes.items():
                funnel.enter("addresses")
                sha256, reason = _read_outcome(outcome)
                if sha256:
                    funnel.leave("addresses")
                else:
                    funnel.reject("addresses", reason)
                row = {"url": url, "sha256": sha256, "reason": reason}
                file.write(json.dumps(row) + "\n")
        return funnel

    return workspace.make_part("fetch", "all", digest(sorted(outcomes.items())), write)


def _wanted(workspace: Workspace) -> Iterator[str]:
    """The best address of every mention that has no file yet, in order, once."""
    seen: set[str] = set()
    with ImageTable(workspace, ("pages",)) as table:
        for part in workspace.parts("pages"):
            for row in read_pages(workspace.part_folder("pages", part)):
                for mention in Page.from_json(row).mentions:
                    if any(table.find(url)[0] for url in mention.urls):
                        continue
                    if mention.urls[0] not in seen:
                        seen.add(mention.urls[0])
                        yield mention.urls[0]


def _read_outcome(outcome: str) -> tuple[str, str]:
    kind, _, value = outcome.partition(":")
    return (value, "") if kind == "sha256" else ("", outcome)


class _Journal:
    """Appends what is settled, line by line, so that a killed run loses at most one answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.outcomes: dict[str, str] = {}
        for row in read_lines(path):
            if (
                isinstance(row, list)
                and len(row) == 2
                and all(isinstance(each, str) for each in row)
            ):
                self.outcomes[row[0]] = row[1]

    def add(self, url: str, outcome: str) -> None:
        """Keep an outcome, unless another run may find the host well again."""
        with self._lock:
            self.outcomes[url] = outcome
            if outcome not in _PASSING:
                append_lines(self._path, [[url, outcome]])


def _fetch_all(
    urls: Sequence[str], workspace: Workspace, config: MineConfig, settled: _Journal
) -> None:
    """Fetch in rounds: what one host redirects is asked of another in the next one."""
    with http_client(httpx.Timeout(config.fetch.timeout_s)) as client:
        fetcher = _Fetcher(client, config.fetch, config.pages.max_image_bytes)
        now_at = {url: url for url in urls}
        for _ in range(_MOST_REDIRECTS + 1):
            now_at = _fetch_round(now_at, fetcher, workspace, config, settled)
        for url in now_at:
            settled.add(url, "too many redirects")


def _fetch_round(
    now_at: Mapping[str, str],
    fetcher: "_Fetcher",
    workspace: Workspace,
    config: MineConfig,
    settled: _Journal,
) -> dict[str, str]:
    """Ask for each address where it is now. Returns those that have moved on, and where to."""
    by_host: dict[str, dict[str, str]] = defaultdict(dict)
    for url, place in now_at.items():
        by_host[urlsplit(place).hostname or ""][url] = place
    moved: dict[str, str] = {}

    def visit(host_urls: Mapping[str, str]) -> None:
        for url, outcome in fetcher.visit(host_urls, workspace.store_image):
            kind, _, place = outcome.partition(":")
            if kind == _MOVED:
                moved[url] = place
            else:
                settled.add(url, outcome)

    threads = ThreadPoolExecutor(config.fetch.concurrency)
    try:
        list(threads.map(visit, by_host.values()))
    except BaseException:
        fetcher.stop()  # Ctrl-C: the threads give up what they are at
        raise
    finally:
        threads.shutdown(cancel_futures=True)
    return moved


@dataclass(frozen=True)
class _Reply:
    """An answer; `location` is where a redirect leads, `wait` how long the host asks to wait."""

    status: int = 0
    media_type: str = ""
    body: bytes = b""
    wait: float = 0.0
    location: str = ""


class _Fetcher:
    """Asks hosts, each from one thread at a time."""

    def __init__(self, client: httpx.Client, settings: FetchSettings, most: int) -> None:
        self._client = client
        self._settings = settings
        self._most = most
        # The client keeps a connection as long as it may be used again.
        self._streams: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give up the requests that are under way, and begin no more."""
        self._stopped.set()
        for host in list(self._streams):
            self._hang_up(host)

    def _hang_up(self, host: str) -> None:
        """End what a host is sending. httpx bounds a single wait, not an answer that drips."""
        stream = self._streams.get(host)
        if stream is None:
            return
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which would leave its reader without a session.
            socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def visit(
        self, urls: Mapping[str, str], store: Callable[[bytes], str]
    ) -> Iterator[tuple[str, str]]:
        """Fetch the addresses of one host, one after the other.

        Args:
            urls: address on the page -> where it is now.
            store: keeps an image and returns its SHA-256.

        Yields:
            The address on the page and "sha256:" with the hash, "moved:" with an address, or the
            reason why there is nothing.
        """
        known: dict[str, Protego | RefusedError] = {}
        for url, place in urls.items():
            try:
                robots = self._robots(place, known)
                if not robots.can_fetch(place, AGENT):
                    raise RefusedError("robots.txt forbids it")
                if self._stopped.wait(self._delay(robots)):
                    return
                reply = self._image(place)
                moved = f"{_MOVED}:{reply.location}"
                yield url, moved if reply.location else f"sha256:{store(reply.body)}"
            except RefusedError as error:
                if self._stopped.is_set():
                    return  # a request that was given up says nothing of its host
                yield url, str(error)

    def _delay(self, robots: Protego) -> float:
        asked_for = min(float(robots.crawl_delay(AGENT) or 0), _LONGEST_DELAY_S)
        return max(60.0 / self._settings.requests_per_host_per_minute, asked_for)

    def _robots(self, url: str, known: dict[str, Protego | RefusedError]) -> Protego:
        """The rules for an address, from those that are known or the host. Raises RefusedError."""
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/robots.txt"
        if place not in known:
            try:
                known[place] = self._read_robots(place)
            except RefusedError as error:
                known[place] = error
        rules = known[place]
        if isinstance(rules, RefusedError):
            raise rules
        return rules

    def _read_robots(self, url: str) -> Protego:
        """The host's rules. None published: all is allowed; unreadable: nothing is (RFC 9309)."""
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                reply = self._get(url, _ROBOTS_BYTES)
            except RefusedError as error:
                raise RefusedError(_PASSING[1] if str(error) in _PASSING else str(error)) from error
            if reply.status >= 500:
                raise RefusedError(_PASSING[1])
            if not reply.location:
                text = reply.body[:_ROBOTS_BYTES].decode("utf-8", "replace")
                return Protego.parse(text if reply.status == 200 else "")
            url = reply.location
        raise RefusedError("too many redirects")

    def _image(self, url: str) -> _Reply:
        """An image or a redirect; anything else is refused."""
        reply = self._get(url, self._most)
        if reply.location:
            return reply
        if reply.status != 200:
            raise RefusedError(f"HTTP status {reply.status}")
        if not reply.media_type.startswith("image/"):
            raise RefusedError("not an image")
        if len(reply.body) > self._most:
            raise RefusedError("image file too large")
        return reply

    def _get(self, url: str, most: int) -> _Reply:
        """An answer with up to `most` + 1 bytes, with retries."""
        reply = _Reply()
        for tried in range(self._settings.tries):
            if tried and self._stopped.wait(
                min(max(2.0 ** (tried - 1), reply.wait), _LONGEST_DELAY_S)
            ):
                break
            try:
                reply = self._ask(url, most)
            except httpx.HTTPError:
                reply = _Reply()
            if reply.status and reply.status not in _TRY_AGAIN:
                return reply
        if not reply.status:
            raise RefusedError(_PASSING[0])
        return reply

    def _ask(self, url: str, most: int) -> _Reply:
        self._check_address(url)
        try:
            with self._open(url) as response:
                self._check_peer(response)
                location = ""
                if response.is_redirect:
                    location, reason = absolute(url, response.headers.get("Location", ""))
                    if reason:
                        raise RefusedError(f"redirect: {reason}")
                return _Reply(
                    response.status_code,
                    response.headers.get("Content-Type", "").partition(";")[0].lower(),
                    b"" if location else _read(response, most + 1),
                    retry_after(response),
                    location,
                )
        except httpx.InvalidURL as error:
            raise RefusedError("malformed address") from error

    @contextlib.contextmanager
    def _open(self, url: str) -> Iterator[httpx.Response]:
        """A response that ends in time, however slowly it comes in. Raises httpx.HTTPError."""
        host = urlsplit(url).netloc

        def note(event: str, facts: Mapping[str, Any]) -> None:
            if event.endswith(("connect_tcp.complete", "start_tls.complete")):
                self._streams[host] = facts["return_value"]

        seconds = _LONGEST_ANSWER * self._settings.timeout_s
        deadline = time.monotonic() + seconds
        too_late = threading.Timer(seconds, self._hang_up, [host])
        too_late.start()
        try:
            with self._client.stream(
                "GET", url, follow_redirects=False, extensions={"trace": note}
            ) as response:
                yield response
        finally:
            too_late.cancel()
        if self._stopped.is_set() or time.monotonic() >= deadline:
            raise httpx.ReadTimeout("given up")  # what was cut off may look whole

    def _check_address(self, url: str) -> None:
        """Refuse a host any of whose addresses is not a public one."""
        if self._settings.allow_private or getproxies():
            return  # a proxy resolves for us, and is where such rules are kept
        host = urlsplit(url).hostname or ""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise RefusedError("host unknown") from error
        if not all(_is_public(str(entry[4][0])) for entry in found):
            raise RefusedError("private address")

    def _check_peer(self, response: httpx.Response) -> None:
        """The name may have changed its address since it was checked: look whom we reached."""
        if self._settings.allow_private or getproxies():
            return
        stream = response.extensions.get("network_stream")
        peer = stream.get_extra_info("server_addr") if stream else None
        if peer and not _is_public(str(peer[0])):
            raise RefusedError("private address")


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


def _read(response: httpx.Response, most: int) -> bytes:
    pieces = bytearray()
    for chunk in response.iter_bytes():
        pieces += chunk
        if len(pieces) >= most:
            break
    return bytes(pieces[:most])
