"""The project's one HTTP client. Imported only by commands that were asked to use the network.

Proxies (HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE) are taken from the environment.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from lensctl import __version__
from lensctl.errors import DownloadError, StorageError
from lensctl.lock import held_alone

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes expected; None if the server is silent."""

Retrying = Callable[[str, float], None]
"""Called with what went wrong and the seconds until the next attempt."""

ATTEMPTS = 6
MAX_BYTES = 64 * 2**30
_TIMEOUT = httpx.Timeout(30.0)
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


def http_client(timeout: httpx.Timeout = _TIMEOUT) -> httpx.Client:
    """A client that follows redirects, and says who it is."""
    return httpx.Client(
        follow_redirects=True,
        timeout=timeout,
        headers={"User-Agent": f"lensctl/{__version__}", "Accept-Encoding": "identity"},
    )


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Args:
        url: http or https.
        target: where the file goes; its folder is made.
        sha256: expected, in hexadecimal; empty where unknown.
        max_bytes: more is refused, announced or not.
        pause: seconds before the second attempt; doubled for each further one.
    """

    url: str
    target: Path
    sha256: str = ""
    max_bytes: int = MAX_BYTES
    pause: float = 1.0

    @property
    def part(self) -> Path:
        """What has arrived so far; an interrupted download goes on from here."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def origin(self) -> Path:
        """Which version of which address `part` is the beginning of."""
        return self.target.with_name(f"{self.target.name}.part.json")


def download(
    wanted: Download,
    progress: Progress = lambda _done, _total: None,
    retrying: Retrying = lambda _why, _seconds: None,
) -> Path:
    """Fetch a file whole, resuming what an earlier attempt or run left; return its path.

    The file appears under its name when it is complete and its hash is right, not before.

    Raises:
        DownloadError: the server refuses, lies, or drops the connection too often.
        StorageError: the disk is too full, or the folder cannot be written to.
    """
    with ExitStack() as stack:
        lock = wanted.target.with_name(f"{wanted.target.name}.lock")
        busy = _failed(wanted, "another process is downloading it")
        stack.enter_context(
            held_alone(lock, busy, elsewhere="set LENSCTL_MODELS to another folder")
        )
        client = stack.enter_context(http_client())
        _fetch_all(client, wanted, progress, retrying)
        _check_hash(wanted)
        wanted.part.replace(wanted.target)
        wanted.origin.unlink(missing_ok=True)
    return wanted.target


def _fetch_all(
    client: httpx.Client, wanted: Download, progress: Progress, retrying: Retrying
) -> None:
    """Attempt until complete; an attempt that brought bytes does not count as failed."""
    failures, why = 0, ""
    while failures < ATTEMPTS:
        before = _size(wanted.part)
        try:
            if _fetch(client, wanted, progress):
                return
            why = "the server closed the connection early"
        except httpx.HTTPStatusError as error:
            why = f"the server answered {error.response.status_code}"
            if error.response.status_code not in _TRY_AGAIN:
                raise _failed(wanted, why) from error
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
        except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise _failed(wanted, str(error)) from error
        failures = 0 if _size(wanted.part) > before else failures + 1
        if failures < ATTEMPTS:
            seconds = wanted.pause * 2**failures / 2
            retrying(why, seconds)
            time.sleep(seconds)
    raise _failed(wanted, f"{ATTEMPTS} attempts failed; the last: {why}")


def _fetch(client: httpx.Client, wanted: Download, progress: Progress) -> bool:
    """One request for what is missing; whether the file is complete now."""
    done = _size(wanted.part)
    version = _known_version(wanted) if done else ""
    headers = {"Range": f"bytes={done}-", "If-Range": version} if version else {}
    with client.stream("GET", wanted.url, headers=headers) as response:
        if response.status_code == 416:
            if version and response.headers.get("Content-Range") == f"bytes */{done}":
                return True  # all had arrived before the last run ended
            wanted.part.unlink()
            return False
        response.raise_for_status()
        _check_scheme(wanted, response)
        resumed = _is_continuation(response, done)
        start = done if resumed else 0
        total = _total(response, start)
        _check_room(wanted, total, start)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        wanted.origin.write_text(json.dumps({"url": wanted.url, "version": version}))
        return _receive(response, wanted, start, total, progress)


def _receive(
    response: httpx.Response, wanted: Download, start: int, total: int | None, progress: Progress
) -> bool:
    done = start
    with wanted.part.open("ab" if start else "wb") as file:
        progress(done, total)
        # Pieces as they arrive: a fixed size would lose what it holds back when a connection ends.
        for chunk in response.iter_raw():
            done += len(chunk)
            if done > (wanted.max_bytes if total is None else total):
                raise _failed(
                    wanted, f"the server sends more than {total or wanted.max_bytes} bytes"
                )
            file.write(chunk)
            progress(done, total)
    return total is None or done == total


def _is_continuation(response: httpx.Response, done: int) -> bool:
    """Whether a 206 goes on exactly where the part ends; anything else starts anew."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return response.status_code == 206 and start == str(done)


def _total(response: httpx.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _check_scheme(wanted: Download, response: httpx.Response) -> None:
    if wanted.url.startswith("https:") and response.url.scheme != "https":
        raise _failed(wanted, f"it was redirected to {response.url}, which is not encrypted")


def _check_room(wanted: Download, total: int | None, start: int) -> None:
    if total is None:
        return
    if total > wanted.max_bytes:
        raise _failed(wanted, f"the server announces {total} bytes, more than {wanted.max_bytes}")
    free = shutil.disk_usage(wanted.target.parent).free
    if total - start > free:
        raise StorageError(
            f"there is no room for {wanted.target.name}",
            why=f"{total - start:,} bytes are to come, {free:,} are free",
            next_step=f"make room on the disk of {wanted.target.parent}",
        )


def _check_hash(wanted: Download) -> None:
    if not wanted.sha256:
        return
    with wanted.part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted.sha256:
        wanted.part.unlink()
        raise _failed(wanted, f"its sha256 is {found}, expected {wanted.sha256}; it was deleted")


def _known_version(wanted: Download) -> str:
    """The server's name for the version that `part` began with; empty if it cannot go on."""
    try:
        origin = json.loads(wanted.origin.read_text())
        version = origin["version"] if origin["url"] == wanted.url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    # A weak ETag promises the same meaning, not the same bytes: it cannot join two halves.
    return "" if str(version).startswith("W/") else str(version)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _failed(wanted: Download, why: str) -> DownloadError:
    return DownloadError(
        f"could not download {wanted.url}",
        why=why,
        next_step="run the command again: what has arrived is kept and the rest is fetched",
    )
