"""Instructions by a language model behind an endpoint, many questions at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from lensctl.errors import UsageError
from lensctl_training.mining.config import InstructSettings, MineConfig
from lensctl_training.mining.endpoint import Endpoint, EndpointSettings, UnansweredError
from lensctl_training.mining.filters import objection
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.prompts import SCHEMA, VERSION, instruct_messages
from lensctl_training.mining.records import Instructed, Pair
from lensctl_training.mining.text import collapse
from lensctl_training.mining.workspace import Workspace


def write_by_model(
    pairs: Sequence[Pair], workspace: Workspace, config: MineConfig, funnel: Funnel
) -> list[Instructed]:
    """The pairs that got a usable instruction, in order; the others counted with their reasons.

    Raises:
        UsageError: no model is named.
        EndpointError: the endpoint cannot be used.
    """
    settings = config.instruct
    if not settings.model:
        raise UsageError("which model writes the instructions?", next_step="add --endpoint-model")
    cache = workspace.folder / "replies"
    with (
        Endpoint(endpoint_settings(settings), cache) as endpoint,
        ThreadPoolExecutor(settings.concurrency) as threads,
    ):
        written = threads.map(lambda pair: _write(pair, endpoint, settings, funnel), pairs)
        rows = list(_kept(written, funnel))
        endpoint.require_answers()
    funnel.facts["cost in millionths"] += round(
        funnel.facts["tokens in"] * settings.price_in
        + funnel.facts["tokens out"] * settings.price_out
    )
    return rows


def endpoint_settings(settings: InstructSettings) -> EndpointSettings:
    """How the writer's endpoint is asked."""
    return EndpointSettings(
        address=settings.endpoint,
        model=settings.model,
        timeout_s=settings.timeout_s,
        tries=settings.tries,
        max_tokens=settings.max_tokens,
        requests_per_minute=settings.requests_per_minute,
    )


def _write(
    pair: Pair, endpoint: Endpoint, settings: InstructSettings, funnel: Funnel
) -> Instructed | str:
    """The instructed pair, or the reason why there is none."""
    try:
        answer = endpoint.ask(instruct_messages(pair), SCHEMA, funnel)
    except UnansweredError as error:
        return str(error)
    if not answer["usable"]:
        return "the writer found no relation"
    instruction = collapse(answer["instruction"]).strip("\"'“”")
    reason = objection(instruction, pair, settings.max_words)
    if reason:
        return reason
    relation = collapse(answer["relation"])
    return Instructed(pair, instruction, settings.model, VERSION, relation)


def _kept(written: Iterator[Instructed | str], funnel: Funnel) -> Iterator[Instructed]:
    for result in written:
        if isinstance(result, str):
            funnel.reject("pairs", result)
        else:
            yield result
