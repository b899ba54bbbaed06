"""Images that pages name and the input does not hold, fetched politely. Only with --fetch.

One host is asked by one thread, at a bounded rate, after its robots.txt. Addresses that lead to
private networks are refused before connecting and again once connected, redirects included, so
that a page cannot make us talk to the machine's own neighbourhood.
"""

import ipaddress
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import httpx
from protego import Protego

from lensctl.net import http_client
from lensctl_training.mining.config import FetchSettings, MineConfig
from lensctl_training.mining.endpoint import retry_after
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.image_table import ImageTable
from lensctl_training.mining.pages import IMAGES
from lensctl_training.mining.records import Page, read_rows
from lensctl_training.mining.urls import absolute
from lensctl_training.mining.workspace import Workspace, digest

AGENT = "lensctl"
_MOST_REDIRECTS = 5
_ROBOTS_BYTES = 512 * 1024
_LONGEST_DELAY_S = 60.0
_TRY_AGAIN = frozenset([408, 425, 429, 500, 502, 503, 504])
_PASSING = ("host does not answer", "robots.txt cannot be read")


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
    with ImageTable(workspace) as table:
        for part in workspace.parts("pages"):
            for path in sorted(workspace.part_folder("pages", part).glob("site-*.jsonl")):
                for row in read_rows(path):
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
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    url, outcome = json.loads(line)
                except ValueError:
                    continue  # the line that a kill cut short
                self.outcomes[url] = outcome

    def add(self, url: str, outcome: str) -> None:
        with self._lock:
            self.outcomes[url] = outcome
            if outcome in _PASSING:
                return  # another run may find the host well again
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([url, outcome]) + "\n")


def _fetch_all(
    urls: Sequence[str], workspace: Workspace, config: MineConfig, settled: _Journal
) -> None:
    by_host: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        by_host[urlsplit(url).netloc.lower()].append(url)
    with (
        http_client(httpx.Timeout(config.fetch.timeout_s)) as client,
        ThreadPoolExecutor(config.fetch.concurrency) as threads,
    ):
        fetcher = _Fetcher(client, config.fetch, config.pages.max_image_bytes)

        def visit(host_urls: list[str]) -> None:
            for url, outcome in fetcher.visit(host_urls, workspace.store_image):
                settled.add(url, outcome)

        list(threads.map(visit, by_host.values()))


class _Fetcher:
    def __init__(self, client: httpx.Client, settings: FetchSettings, most: int) -> None:
        self._client = client
        self._settings = settings
        self._most = most

    def visit(
        self, urls: Sequence[str], store: Callable[[bytes], str]
    ) -> Iterator[tuple[str, str]]:
        """Fetch the addresses of one host, one after the other; yields their outcomes."""
        try:
            robots = self._robots(urls[0])
        except RefusedError as error:
            yield from ((url, str(error)) for url in urls)
            return
        delay = max(
            60.0 / self._settings.requests_per_host_per_minute,
            min(float(robots.crawl_delay(AGENT) or 0), _LONGEST_DELAY_S),
        )
        for url in urls:
            if not robots.can_fetch(url, AGENT):
                yield url, "robots.txt forbids it"
                continue
            time.sleep(delay)
            try:
                yield url, f"sha256:{store(self._image(url))}"
            except RefusedError as error:
                yield url, str(error)

    def _robots(self, url: str) -> Protego:
        """The host's rules. None published: all is allowed; unreadable: nothing is (RFC 9309)."""
        try:
            status, _, body = self._get(urljoin(url, "/robots.txt"), _ROBOTS_BYTES)
        except RefusedError as error:
            if "does not answer" in str(error):
                raise RefusedError(_PASSING[1]) from error
            raise
        if status >= 500:
            raise RefusedError(_PASSING[1])
        return Protego.parse(body.decode("utf-8", "replace") if status == 200 else "")

    def _image(self, url: str) -> bytes:
        status, media_type, body = self._get(url, self._most)
        if status != 200:
            raise RefusedError(f"HTTP status {status}")
        if not media_type.startswith("image/"):
            raise RefusedError("not an image")
        if len(body) > self._most:
            raise RefusedError("image file too large")
        return body

    def _get(self, url: str, most: int) -> tuple[int, str, bytes]:
        """(status, media type, up to `most` + 1 bytes), over checked redirects, with retries."""
        for tried in range(self._settings.tries):
            wait = 2.0**tried
            try:
                status, media_type, body, asked_wait = self._follow(url, most)
            except httpx.HTTPError:
                status, media_type, body, asked_wait = 0, "", b"", 0.0
            if status and status not in _TRY_AGAIN:
                return status, media_type, body
            if tried + 1 < self._settings.tries:
                time.sleep(min(max(wait, asked_wait), _LONGEST_DELAY_S))
        if status:
            return status, media_type, body
        raise RefusedError(_PASSING[0])

    def _follow(self, url: str, most: int) -> tuple[int, str, bytes, float]:
        for _ in range(_MOST_REDIRECTS + 1):
            self._check_address(url)
            with self._client.stream("GET", url, follow_redirects=False) as response:
                self._check_peer(response)
                if response.is_redirect:
                    url, reason = absolute(url, response.headers.get("Location", ""))
                    if reason:
                        raise RefusedError(f"redirect: {reason}")
                    continue
                body = _read(response, most + 1)
                media_type = response.headers.get("Content-Type", "").partition(";")[0].lower()
                return response.status_code, media_type, body, retry_after(response)
        raise RefusedError("too many redirects")

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
