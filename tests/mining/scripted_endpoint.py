"""A server that answers chat completions from a script: well, late, too often, broken."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[int, dict[str, Any]], Answer | None]


def completion(content: str, finish_reason: str = "stop") -> Answer:
    """A well-formed reply."""
    body = {
        "choices": [{"message": {"content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    }
    return 200, {}, json.dumps(body).encode()


def instruction(text: str) -> Answer:
    return completion(json.dumps({"relation": "r", "instruction": text, "usable": True}))


@contextmanager
def serve(script: Script) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run the server; yields its address and the list of requests it has seen.

    The script gets the number of the request and its body; None means no answer within 3 s.
    """
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(seen)
                seen.append(body)
            answer = script(number, body)
            if answer is None:
                time.sleep(3)
                return
            status, headers, data = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as address:
        yield f"{address}/v1", seen


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on loopback; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def drip(body: bytes, every_s: float, *, headers: bool = False) -> Iterator[str]:
    """A server that gives its body a byte at a time, or the headers already; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
            slow = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * len(body) if headers else body
            with contextlib.suppress(OSError):
                self.wfile.write(b"" if headers else head)
                for byte in slow:
                    self.wfile.write(bytes([byte]))
                    time.sleep(every_s)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as address:
        yield address
