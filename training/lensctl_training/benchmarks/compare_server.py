"""The voting pages of a blind comparison, served to this machine's browser only.

Plain HTML forms, no script. The server listens on loopback under a random path, refuses other
Host headers (a web page cannot reach it by rebinding a name), and tells nobody which side is whose.
"""

import html
import secrets
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any, cast
from urllib.parse import parse_qs

from lensctl.errors import PhotoError, UsageError
from lensctl_training.benchmarks.compare import (
    Ballot,
    Side,
    cast_vote,
    describe,
    read_votes,
    summarise,
)

PICTURE_SIDE = 320
MAX_FORM = 1024
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'"


class VotingServer:
    """Serves one ballot; `serve` returns when `stop` is called.

    Raises UsageError where the port is none, or is taken.
    """

    def __init__(self, ballot: Ballot, port: int = 0) -> None:
        self.ballot = ballot
        self.secret = secrets.token_urlsafe(16)
        self._lock = Lock()
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"the port {port} cannot be used",
                why=str(error),
                next_step="leave --port out: any free one is taken",
            ) from error

    @property
    def address(self) -> str:
        """Where a browser finds the first open question."""
        return f"http://127.0.0.1:{self._server.server_port}/{self.secret}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The Host headers that are ours."""
        port = self._server.server_port
        return f"127.0.0.1:{port}", f"localhost:{port}"

    def serve(self) -> None:
        """Answer requests until `stop`."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """Make `serve` return."""
        self._server.shutdown()

    def next_open(self) -> int | None:
        """The first question without a vote whose answers differ."""
        votes = read_votes(self.ballot)
        for number, pairing in enumerate(self.ballot.pairings):
            if number not in votes and not pairing.identical:
                return number
        return None

    def vote(self, number: int, side: Side) -> None:
        """Keep one vote; two browsers may vote at once."""
        with self._lock:
            cast_vote(self.ballot, number, side)

    def page(self) -> str:
        """The first open question, or the outcome."""
        number = self.next_open()
        return self._outcome() if number is None else self._question(number)

    def _question(self, number: int) -> str:
        pairing = self.ballot.pairings[number]
        left, right = (pairing.a, pairing.b) if pairing.a_is_left else (pairing.b, pairing.a)
        query = _picture(pairing.ask.image) if pairing.ask.image else ""
        return _fill(
            "question.html",
            number=str(number),
            progress=f"{number + 1} of {len(self.ballot.pairings)}",
            query=query,
            text=html.escape(pairing.ask.text),
            left="".join(map(_picture, left)) or "nothing found",
            right="".join(map(_picture, right)) or "nothing found",
        )

    def _outcome(self) -> str:
        words = describe(self.ballot, summarise(self.ballot))
        return _fill("outcome.html", words=html.escape(words))


def _handler(owner: VotingServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._is_ours(f"/{owner.secret}/"):
                self._send(200, owner.page())

        def do_POST(self) -> None:
            if not self._is_ours(f"/{owner.secret}/vote"):
                return
            vote = self._read_vote()
            if vote is None:
                self._send(400, "not a vote")
                return
            owner.vote(*vote)
            self.send_response(303)
            self.send_header("Location", f"/{owner.secret}/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _is_ours(self, path: str) -> bool:
            if self.headers.get("Host") in owner.hosts and self.path == path:
                return True
            self._send(404, "not here")
            return False

        def _read_vote(self) -> tuple[int, Side] | None:
            """The vote in the form, or None where it is not one of ours."""
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_FORM:
                return None
            form = parse_qs(self.rfile.read(int(length)).decode("ascii", "replace"))
            number = form.get("question", [""])[0]
            side = form.get("side", [""])[0]
            known = number.isdecimal() and int(number) < len(owner.ballot.pairings)
            if not known or side not in ("left", "right", "tie"):
                return None
            return int(number), cast(Side, side)

        def _send(self, status: int, page: str) -> None:
            body = page.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not news."""

    return Handler


def _picture(path: str) -> str:
    """An <img> with the small copy inside; a photo that cannot be read is a grey frame."""
    source = _thumbnail(path)
    return f'<img src="{source}" alt="">' if source else '<span class="missing">unreadable</span>'


@cache
def _thumbnail(path: str) -> str:
    """A data address, or nothing where the photo cannot be read."""
    import base64

    from lensctl.show.thumbnail import make_thumbnail

    try:
        small = make_thumbnail(Path(path), PICTURE_SIDE)
    except PhotoError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(small.jpeg).decode()}"


def _fill(name: str, **values: str) -> str:
    """A template with its $names replaced; the values are HTML already."""
    from string import Template

    text = (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(values)
