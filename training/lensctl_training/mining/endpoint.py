"""A language model behind an OpenAI-compatible address (vLLM, llama.cpp, Ollama, hosted ones).

Answers are kept on disk under a hash of the question, so that a run that is stopped, or repeated
with other filters, asks nothing twice. What the server does wrong - time out, limit the rate, cut
its JSON, talk nonsense, refuse what it is asked - costs one question, not the run; a server that
does not answer at all, or refuses our key, ends it with an EndpointError.
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
from lensctl_training.mining.funnel import UNANSWERED, Funnel
from lensctl_training.mining.workspace import digest

KEY_VARIABLES = ("LENSCTL_API_KEY", "OPENAI_API_KEY")
_TRY_AGAIN = frozenset([408, 409, 425, 429, 500, 502, 503, 504, 529])
_REFUSED_QUESTION = frozenset([400, 413, 422])
"""A content filter, a question that is too long - or a request that is wrong altogether."""
_LONGEST_WAIT_S = 60.0
_MOST_REPLY_BYTES = 2**20
_GIVE_UP_AFTER = 10
_FORMATS = 3
_heard: set[str] = set()
_silence: dict[str, int] = {}
"""Addresses that answered in this process, and how many questions in a row one did not: each part
of a run opens an `Endpoint` of its own."""
_NO_COMPLETION = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class EndpointSettings:
    """Where and how to ask. See `InstructSettings` for the fields."""

    address: str
    model: str
    timeout_s: float
    """For a whole answer, however slowly it comes in."""
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
        self._format_works = False
        self._answered = False
        self._next_request = 0.0

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def require_answers(self) -> None:
        """Raise EndpointError where questions were asked and no server ever answered any."""
        address = self._settings.address
        if _silence.get(address, 0) and not self._answered and address not in _heard:
            raise self._silent("it answered nothing that it was asked")

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
            self._answered = True
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
        why, tried, form = "", 0, self._format
        while tried < self._settings.tries:
            refused = response = None
            self._wait_for_turn()
            self._count(funnel, "requests")
            try:
                response = self._post(self._body(messages, schema, attempt, form))
            except httpx.TimeoutException:
                why = "the server did not answer in time"
            except httpx.InvalidURL as error:
                raise EndpointError(
                    f"{self._settings.address} is no address that can be asked",
                    why=str(error),
                    next_step="check --endpoint or --captioner",
                ) from error
            except httpx.RequestError as error:
                why = str(error) or type(error).__name__
            else:
                why = f"the server answered {response.status_code}"
                if response.status_code == 200:
                    reply = self._understood(response, funnel)
                    if reply is not None:
                        self._note_success(form)
                        return reply
                    why = "the server's answer is no chat completion"
                elif _dislikes_format(response) and self._is_plainer(form + 1):
                    form += 1
                    continue
                elif response.status_code in _REFUSED_QUESTION:
                    refused = self._refused(response)
                    if self._answered:
                        break
                elif response.status_code not in _TRY_AGAIN:
                    raise self._refused(response)
            self._pause(tried, response)
            tried += 1
        if refused is None:
            self._count(funnel, f"gave up: {why}"[:80])
            self._count(funnel, UNANSWERED)
            self._note_failure(why)
            raise UnansweredError("the endpoint did not answer")
        # Where others were answered, it is this question. Nothing was yet: it may be us.
        if not self._answered:
            raise refused
        raise UnansweredError("the endpoint refused the question")

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = self._settings.address.rstrip("/") + "/chat/completions"
        deadline = time.monotonic() + self._settings.timeout_s
        with self._client.stream("POST", url, json=body, headers=headers) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _MOST_REPLY_BYTES:
                    break
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer comes in too slowly")
            response._content = bytes(data)  # what `Response.read` sets, but bounded
            return response

    def _body(
        self, messages: Sequence[dict[str, Any]], schema: dict[str, Any], attempt: int, form: int
    ) -> dict[str, Any]:
        """The request. Servers differ in how they take a schema: `form` 0 is the newest way, the
        last one none."""
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": list(messages),
            "max_tokens": self._settings.max_tokens,
            "temperature": 0.7 if attempt else 0.2,
            "seed": attempt,
        }
        named = {"name": "answer", "schema": schema, "strict": True}
        formats: tuple[dict[str, Any], ...] = (
            {"type": "json_schema", "json_schema": named},
            {"type": "json_object", "schema": schema},
            {},
        )
        if formats[form]:
            body["response_format"] = formats[form]
        return body

    def _is_plainer(self, form: int) -> bool:
        """Whether to try that way of asking for JSON: there is one, and it is not known that the
        server takes an earlier one."""
        return form < _FORMATS and not self._format_works

    def _note_success(self, form: int) -> None:
        """The way of asking that was answered is kept for all further questions."""
        with self._lock:
            _silence[self._settings.address] = 0
            _heard.add(self._settings.address)
            self._answered = True
            if not self._format_works:
                self._format, self._format_works = form, True

    def _understood(self, response: httpx.Response, funnel: Funnel) -> dict[str, Any] | None:
        try:
            data = json.loads(response.content)
            choice = data["choices"][0]
            message = choice["message"]
            usage = data.get("usage") or {}
            tokens_in = int(usage.get("prompt_tokens") or 0)
            tokens_out = int(usage.get("completion_tokens") or 0)
            reply = {
                "content": str(message.get("content") or ""),
                "refusal": str(message.get("refusal") or ""),
                "finish_reason": str(choice.get("finish_reason") or ""),
            }
        except _NO_COMPLETION:
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
            failures = _silence.get(self._settings.address, 0) + 1
            _silence[self._settings.address] = failures
        if failures >= _GIVE_UP_AFTER:
            raise self._silent(why)

    def _silent(self, why: str) -> EndpointError:
        with self._lock:
            # The next run begins to count anew.
            _silence.pop(self._settings.address, None)
            _heard.discard(self._settings.address)
        return EndpointError(
            f"{self._settings.address} does not answer",
            why=why,
            next_step="start the server, or check --endpoint or --captioner; then run the command"
            " again: answers so far are kept",
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
