"""A language model behind an OpenAI-compatible address (vLLM, llama.cpp, Ollama, hosted ones).

Answers are kept on disk under a hash of the question, so that a run that is stopped, or repeated
with other filters, asks nothing twice. What the server does wrong - time out, limit the rate, cut
its JSON, talk nonsense - costs one question, not the run; a server that does not answer at all,
or refuses our key, ends it with an EndpointError.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator, ValidationError

from lensctl.errors import EndpointError
from lensctl.net import http_client
from lensctl.whole import write_whole
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.workspace import digest

KEY_VARIABLES = ("LENSCTL_API_KEY", "OPENAI_API_KEY")
_TRY_AGAIN = frozenset([408, 409, 425, 429, 500, 502, 503, 504, 529])
_LONGEST_WAIT_S = 60.0
_MOST_REPLY_BYTES = 2**20
_GIVE_UP_AFTER = 10
_FORMATS = ("json_schema", "json_object", "")


@dataclass(frozen=True)
class EndpointSettings:
    """Where and how to ask. See `InstructSettings` for the fields."""

    address: str
    model: str
    timeout_s: float
    tries: int
    max_tokens: int
    requests_per_minute: int = 0
    pause_s: float = 1.0
    """Before the second try; doubled for each further one."""


class UnansweredError(Exception):
    """One question got no usable answer; the message is the reason. Never leaves the writers."""


class Endpoint:
    """Asks questions whose answers are JSON of a given schema. Safe to use from many threads."""

    def __init__(self, settings: EndpointSettings, cache: Path) -> None:
        self._settings = settings
        self._cache = cache
        self._client = http_client(httpx.Timeout(settings.timeout_s))
        self._lock = threading.Lock()
        self._format = 0
        self._next_request = 0.0
        self._failures = 0

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self, messages: Sequence[dict[str, Any]], schema: dict[str, Any], funnel: Funnel
    ) -> dict[str, Any]:
        """An answer that fits the schema.

        Args:
            messages: as in the chat completions interface.
            schema: JSON schema of an object.
            funnel: its facts count requests, answers from the cache, tokens and bad answers.

        Raises:
            UnansweredError: no usable answer after all tries.
            EndpointError: the server cannot be used at all.
        """
        reason = ""
        for attempt in range(self._settings.tries):
            reply = self._reply(messages, schema, attempt, funnel)
            if reply.get("refusal"):
                raise UnansweredError("the writer refused")
            try:
                answer = parse_answer(str(reply.get("content") or ""))
                Draft202012Validator(schema).validate(answer)
                return answer
            except (ValueError, ValidationError):
                cut = reply.get("finish_reason") == "length"
                reason = "answer cut short" if cut else "answer does not fit the schema"
                self._count(funnel, reason)
        raise UnansweredError(reason)

    def _reply(
        self,
        messages: Sequence[dict[str, Any]],
        schema: dict[str, Any],
        attempt: int,
        funnel: Funnel,
    ) -> dict[str, Any]:
        """The model's reply, from the cache or the server."""
        key = digest(self._settings.model, self._settings.max_tokens, messages, schema, attempt)
        place = self._cache / key[:2] / f"{key}.json"
        kept = _read_kept(place)
        if kept is not None:
            self._count(funnel, "answers from the cache")
            return kept
        reply = self._request(messages, schema, attempt, funnel)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(reply))
        return reply

    def _request(
        self,
        messages: Sequence[dict[str, Any]],
        schema: dict[str, Any],
        attempt: int,
        funnel: Funnel,
    ) -> dict[str, Any]:
        settings = self._settings
        why = ""
        for tried in range(settings.tries):
            self._wait_for_turn()
            body = self._body(messages, schema, attempt)
            self._count(funnel, "requests")
            try:
                response = self._post(body)
            except httpx.TimeoutException:
                why = "the server did not answer in time"
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            else:
                if response.status_code == 200:
                    reply = self._understood(response, funnel)
                    if reply is not None:
                        self._failures = 0
                        return reply
                    why = "the server's answer is no chat completion"
                elif _dislikes_format(response) and self._plainer_format(body):
                    continue
                elif response.status_code not in _TRY_AGAIN:
                    raise self._refused(response)
                else:
                    why = f"the server answered {response.status_code}"
                    self._pause(tried, response)
                    continue
            self._pause(tried, None)
        self._note_failure(why)
        self._count(funnel, f"gave up: {why}"[:80])
        raise UnansweredError("the endpoint did not answer")

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = self._settings.address.rstrip("/") + "/chat/completions"
        with self._client.stream("POST", url, json=body, headers=headers) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _MOST_REPLY_BYTES:
                    break
            response._content = bytes(data)  # what `Response.read` sets, but bounded
            return response

    def _body(
        self, messages: Sequence[dict[str, Any]], schema: dict[str, Any], attempt: int
    ) -> dict[str, Any]:
        """The request. Servers differ in how they take a schema: from the newest way to none."""
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": list(messages),
            "max_tokens": self._settings.max_tokens,
            "temperature": 0.7 if attempt else 0.2,
            "seed": attempt,
        }
        named = {"name": "answer", "schema": schema, "strict": True}
        formats: tuple[dict[str, Any], ...] = (
            {"type": _FORMATS[0], "json_schema": named},
            {"type": _FORMATS[1], "schema": schema},
            {},
        )
        if formats[self._format]:
            body["response_format"] = formats[self._format]
        return body

    def _plainer_format(self, refused: dict[str, Any]) -> bool:
        """Step to a plainer way of asking for JSON; False where there is none left. Many threads
        may have been refused at once: the first of them steps."""
        with self._lock:
            if "response_format" not in refused:
                return False
            if refused["response_format"]["type"] == _FORMATS[self._format]:
                self._format += 1
            return True

    def _understood(self, response: httpx.Response, funnel: Funnel) -> dict[str, Any] | None:
        try:
            data = json.loads(response.content)
            choice = data["choices"][0]
            message = choice["message"]
            usage = data.get("usage") or {}
            tokens_in = int(usage.get("prompt_tokens") or 0)
            tokens_out = int(usage.get("completion_tokens") or 0)
            reply = {
                "content": message.get("content") or "",
                "refusal": message.get("refusal") or "",
                "finish_reason": choice.get("finish_reason") or "",
            }
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None
        self._count(funnel, "tokens in", tokens_in)
        self._count(funnel, "tokens out", tokens_out)
        return reply

    def _wait_for_turn(self) -> None:
        """Keep to our own limit of requests a minute."""
        if self._settings.requests_per_minute <= 0:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_request)
            self._next_request = turn + 60.0 / self._settings.requests_per_minute
        time.sleep(turn - now)

    def _pause(self, tried: int, response: httpx.Response | None) -> None:
        if tried + 1 >= self._settings.tries:
            return
        wait = self._settings.pause_s * 2**tried
        if response is not None:
            wait = max(wait, retry_after(response))
        time.sleep(min(wait, _LONGEST_WAIT_S))

    def _note_failure(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= _GIVE_UP_AFTER:
            raise EndpointError(
                f"{self._settings.address} does not answer",
                why=why,
                next_step="start the server, or check --endpoint; answers so far are kept",
            )

    def _refused(self, response: httpx.Response) -> EndpointError:
        said = response.content[:300].decode("utf-8", "replace")
        return EndpointError(
            f"{self._settings.address} refuses the request ({response.status_code})",
            why=" ".join(said.split()),
            next_step=f"check --endpoint, --endpoint-model and {' or '.join(KEY_VARIABLES)}",
        )

    def _count(self, funnel: Funnel, name: str, count: int = 1) -> None:
        with self._lock:
            funnel.facts[name] += count


def _read_kept(place: Path) -> dict[str, Any] | None:
    """A reply from the cache; None where it was not asked for yet or a crash damaged the file."""
    try:
        return dict(json.loads(place.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _dislikes_format(response: httpx.Response) -> bool:
    """Whether a server refuses how JSON was asked for. llama-cpp-python's says so with a 500."""
    if response.status_code in (400, 422):
        return True
    return response.status_code == 500 and b"response_format" in response.content


def retry_after(response: httpx.Response) -> float:
    """Seconds that a server asks to wait; 0 where it does not say, or says it as a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def parse_answer(content: str) -> Any:
    """The JSON object in a reply, which may stand in a code fence or between words.

    Raises:
        ValueError: there is none.
    """
    start, end = content.find("{"), content.rfind("}")
    if start < 0 or end < start:
        raise ValueError("no JSON object")
    try:
        return json.loads(content[start : end + 1])
    except RecursionError as error:
        raise ValueError("nested too deep") from error
