"""A language model behind an endpoint that behaves badly in every way it can."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lensctl.errors import CheckpointError, DependencyError, EndpointError, ModelError, UsageError
from lensctl_training.mining import captioner, prompts
from lensctl_training.mining.captioner import captioner_settings, check_captioner
from lensctl_training.mining.config import InstructSettings, MineConfig
from lensctl_training.mining.endpoint import Endpoint, EndpointSettings, UnansweredError
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.prompts import SCHEMA
from lensctl_training.mining.workspace import Workspace
from lensctl_training.mining.write import instructed_rows
from mining.scripted_endpoint import Answer, Script, completion, drip, instruction, serve

GOOD = instruction("the same thing seen from the other side")
QUESTION = [{"role": "user", "content": "?"}]


def ask(address: str, cache: Path, **settings: Any) -> tuple[dict[str, Any] | None, Funnel, str]:
    """(answer, funnel, reason) of one question."""
    chosen = EndpointSettings(address, "m", timeout_s=0.6, tries=3, max_tokens=99, pause_s=0.01)
    funnel = Funnel()
    with Endpoint(dataclasses.replace(chosen, **settings), cache) as endpoint:
        try:
            return endpoint.ask(QUESTION, SCHEMA, funnel), funnel, ""
        except UnansweredError as error:
            return None, funnel, str(error)


def first(bad: Answer | None) -> Script:
    """The first request goes wrong, the others do not."""
    return lambda number, body: bad if number == 0 else GOOD


@pytest.mark.parametrize(
    "bad",
    [
        None,
        (429, {"Retry-After": "0.05"}, b"slow down"),
        (429, {"Retry-After": "Wed, 21 Oct 2030 07:28:00 GMT"}, b"slow down"),
        (503, {}, b""),
        (200, {}, b"<html>not JSON"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": null}]}'),
        completion('{"relation": "r", "instruction": "the oth', "length"),
        completion("As an AI I would love to help you with this."),
        completion('{"relation": 3, "instruction": "x", "usable": true}'),
        completion('{"instruction": "no relation given", "usable": true}'),
        completion("{" * 5000),
        (400, {}, b"response_format json_schema is not supported"),
        (500, {}, b'{"detail": [{"loc": ["body", "response_format", "type"]}]}'),
        (200, {}, b"[" * 200_000),
        (200, {}, b'{"choices": [{"message": {}}], "usage": {"prompt_tokens": 1e999}}'),
        (200, {"Content-Encoding": "gzip"}, b"not gzip at all"),
        completion('{"relation": ' + "[" * 900 + "]" * 900 + "}"),
    ],
    ids=[
        "times out", "rate limit", "rate limit with a date", "unavailable", "HTML", "no choice",
        "null", "cut", "talk", "wrong type", "missing field", "braces", "old server", "llama.cpp",
        "deep JSON", "endless tokens", "no gzip", "deep answer",
    ],
)  # fmt: skip
def test_one_bad_answer_is_asked_again(bad: Answer | None, tmp_path: Path) -> None:
    with serve(first(bad)) as (address, seen):
        answer, funnel, _ = ask(address, tmp_path)
    assert answer == json.loads(json.loads(GOOD[2])["choices"][0]["message"]["content"])
    assert len(seen) == 2
    assert funnel.facts["requests"] == 2


def test_an_answer_in_a_code_fence_is_read(tmp_path: Path) -> None:
    text = '```json\n{"relation": "r", "instruction": "its other half", "usable": true}\n```'
    with serve(lambda number, body: completion(text)) as (address, _):
        answer, _, _ = ask(address, tmp_path)
    assert answer is not None
    assert answer["instruction"] == "its other half"


def test_nonsense_to_the_end_costs_one_question(tmp_path: Path) -> None:
    with serve(lambda number, body: completion("banana")) as (address, seen):
        answer, funnel, reason = ask(address, tmp_path)
        assert (answer, reason) == (None, "answer does not fit the schema")
        assert [body["seed"] for body in seen] == [0, 1, 2]
        ask(address, tmp_path)
        assert len(seen) == 3  # nonsense is kept, too: asking again would give it again
    assert funnel.facts["tokens out"] == 60


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    with serve(lambda number, body: GOOD) as (address, seen):
        one, _, _ = ask(address, tmp_path)
        other, funnel, _ = ask(address, tmp_path)
        assert one == other
        assert len(seen) == 1
        assert funnel.facts["answers from the cache"] == 1
        assert funnel.facts["tokens in"] == 0
        ask(address, tmp_path, model="another")
        assert len(seen) == 2


def test_a_refusal_is_taken_as_one(tmp_path: Path) -> None:
    body = {"choices": [{"message": {"content": None, "refusal": "I must not"}}]}
    answer = (200, {}, json.dumps(body).encode())
    with serve(lambda number, body: answer) as (address, seen):
        _, _, reason = ask(address, tmp_path)
    assert reason == "the writer refused"
    assert len(seen) == 1


def ask_all(endpoint: Endpoint, count: int, funnel: Funnel) -> list[str]:
    """The instruction or the reason of each of some questions, which are numbers."""
    said = []
    for number in range(count):
        try:
            messages = [{"role": "user", "content": f"question {number}"}]
            said.append(endpoint.ask(messages, SCHEMA, funnel)["instruction"])
        except UnansweredError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_question_that_is_refused_costs_itself(status: int, tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        filtered = "question 3" in body["messages"][0]["content"]
        return (status, {}, b"The prompt was filtered") if filtered else GOOD

    settings = EndpointSettings("", "m", timeout_s=2, tries=4, max_tokens=99, pause_s=5)
    with serve(script) as (address, seen):
        chosen = dataclasses.replace(settings, address=address)
        with Endpoint(chosen, tmp_path) as endpoint:
            said = ask_all(endpoint, 6, Funnel())
    good = "the same thing seen from the other side"
    assert said == [good] * 3 + ["the endpoint refused the question"] + [good] * 2
    assert len(seen) == 6
    assert {body["response_format"]["type"] for body in seen} == {"json_schema"}
    # A run that goes on has only the refused one left to ask.
    with serve(script) as (address, seen):
        chosen = dataclasses.replace(settings, address=address)
        with Endpoint(chosen, tmp_path) as endpoint:
            assert ask_all(endpoint, 6, Funnel()) == said


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_everything_ends_the_run(status: int, tmp_path: Path) -> None:
    with (
        serve(lambda number, body: (status, {}, b"no such model")) as (address, _),
        pytest.raises(EndpointError, match=str(status)) as caught,
    ):
        ask(address, tmp_path, tries=2)
    assert "no such model" in caught.value.why


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="no address that can be asked"):
        ask("http://\N{SNOWMAN}.net/v1", tmp_path)


def test_a_plainer_way_of_asking_is_kept_where_it_helps(tmp_path: Path) -> None:
    def old(number: int, body: dict[str, Any]) -> Answer:
        return (400, {}, b"unknown field") if "response_format" in body else GOOD

    with serve(old) as (address, seen):
        chosen = EndpointSettings(address, "m", timeout_s=2, tries=1, max_tokens=99, pause_s=0.01)
        with Endpoint(chosen, tmp_path) as endpoint:
            ask_all(endpoint, 3, Funnel())
    ways = [body.get("response_format", {}).get("type", "none") for body in seen]
    assert ways == ["json_schema", "json_object", "none", "none", "none"]


def test_an_answer_that_drips_is_not_waited_for(tmp_path: Path) -> None:
    with drip(b" " * 100, every_s=0.1) as address:
        started = time.monotonic()
        _, _, reason = ask(f"{address}/v1", tmp_path, tries=1)
        assert time.monotonic() - started < 3
    assert reason == "the endpoint did not answer"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_ends_the_run(status: int, tmp_path: Path) -> None:
    with (
        serve(lambda number, body: (status, {}, b"no such key")) as (address, seen),
        pytest.raises(EndpointError, match=str(status)) as caught,
    ):
        ask(address, tmp_path)
    assert "no such key" in caught.value.why
    assert len(seen) == 1


def test_the_key_is_sent_and_kept_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSCTL_API_KEY", "s3cret")
    with serve(lambda number, body: GOOD) as (address, _):
        ask(address, tmp_path)
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert kept
    assert "s3cret" not in kept


def with_endpoint(address: str, **settings: Any) -> MineConfig:
    instruct = InstructSettings(endpoint=address, model="m", timeout_s=2.0, **settings)
    return MineConfig(instruct=instruct)


@pytest.mark.usefixtures("stub")
def test_a_model_writes_the_instructions(handbook: Path, tmp_path: Path) -> None:
    replies = (
        GOOD,
        instruction("I'm sorry, I cannot help with that, as this is an image"),
        instruction("look at IMG_2044.jpg instead of this one"),
        instruction("a grid"),
        completion('{"relation": "none", "instruction": "", "usable": false}'),
        completion("banana"),
    )

    def script(number: int, body: dict[str, Any]) -> Answer:
        question = body["messages"][-1]["content"]
        return replies[sum(question.encode()) % len(replies)]

    out = tmp_path / "out"
    with serve(script) as (address, seen):
        config = with_endpoint(address, tries=2, price_in=1.0, price_out=2.0)
        funnel = run_pipeline([handbook], out, config, InProcess())["instruct"]
        asked = len(seen)
        run_pipeline([handbook], out, config, InProcess())
        assert len(seen) == asked
    rows = list(instructed_rows(Workspace(out)))
    assert rows
    assert {(row.writer, row.prompt_version) for row in rows} == {("m", "instruct-1")}
    assert {row.instruction for row in rows} == {"the same thing seen from the other side"}
    reasons = set(funnel.rejected["pairs"])
    assert {
        "the writer refused",
        "instruction leaks a file name",
        "the writer found no relation",
        "answer does not fit the schema",
    } <= reasons
    assert funnel.lost("pairs") == 0
    assert funnel.facts["cost in millionths"] == (
        funnel.facts["tokens in"] * 1 + funnel.facts["tokens out"] * 2
    )


@pytest.mark.usefixtures("stub")
def test_a_dead_endpoint_ends_the_run_and_the_next_one_goes_on(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensctl_training.mining.endpoint._LONGEST_WAIT_S", 0.01)
    out = tmp_path / "out"
    with serve(lambda n, body: GOOD if n < 5 else (503, {}, b"")) as (address, _):
        config = with_endpoint(address, tries=2, concurrency=2)
        with pytest.raises(EndpointError, match="does not answer"):
            run_pipeline([handbook], out, config, InProcess())
    with serve(lambda number, body: GOOD) as (address, _):
        config = with_endpoint(address, tries=2, concurrency=2)
        funnels = run_pipeline([handbook], out, config, InProcess())
    assert funnels["instruct"].facts["answers from the cache"] >= 5
    assert funnels["write"].left["triplets"] > 0


def test_a_server_that_never_answers_ends_the_run_whatever_its_parts_are(tmp_path: Path) -> None:
    """Few questions in each part: the silence is counted over all of them."""
    with serve(lambda number, body: (503, {}, b"")) as (address, _):
        chosen = EndpointSettings(address, "m", timeout_s=2, tries=1, max_tokens=99, pause_s=0.01)
        with Endpoint(chosen, tmp_path) as endpoint:
            with pytest.raises(UnansweredError):
                endpoint.ask(QUESTION, SCHEMA, Funnel())
            with pytest.raises(EndpointError, match="does not answer"):
                endpoint.require_answers()
    with serve(lambda number, body: GOOD if number == 0 else (503, {}, b"")) as (address, _):
        chosen = dataclasses.replace(chosen, address=address)
        with Endpoint(chosen, tmp_path) as endpoint:
            endpoint.ask(QUESTION, SCHEMA, Funnel())
        for part in range(9):
            other = [{"role": "user", "content": f"{part}?"}]
            with Endpoint(chosen, tmp_path) as endpoint:
                with pytest.raises(UnansweredError):
                    endpoint.ask(other, SCHEMA, Funnel())
                endpoint.require_answers()
        with Endpoint(chosen, tmp_path) as endpoint, pytest.raises(EndpointError):
            endpoint.ask([{"role": "user", "content": "9?"}], SCHEMA, Funnel())


@pytest.mark.usefixtures("stub")
def test_what_was_not_answered_is_asked_again_by_the_next_run(
    handbook: Path, tmp_path: Path
) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        return (503, {}, b"") if number == 2 and not well else GOOD

    out, well = tmp_path / "out", False
    with serve(script) as (address, seen):
        config = with_endpoint(address, tries=1, concurrency=1)
        first = run_pipeline([handbook], out, config, InProcess())
        asked, well = len(seen), True
        second = run_pipeline([handbook], out, config, InProcess())
        assert len(seen) == asked + 1
        run_pipeline([handbook], out, config, InProcess())
        assert len(seen) == asked + 1
    assert first["instruct"].facts["questions without an answer"] == 1
    assert second["instruct"].facts["questions without an answer"] == 0
    assert first["instruct"].rejected["pairs"]["the endpoint did not answer"] == 1
    assert second["instruct"].rejected["pairs"]["the endpoint did not answer"] == 0


@pytest.mark.usefixtures("stub")
def test_captions_come_from_a_vision_endpoint(handbook: Path, tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        image = body["messages"][0]["content"][1]["image_url"]["url"]
        assert image.startswith("data:image/jpeg;base64,")
        return completion(json.dumps({"caption": "coloured shapes on a plain ground"}))

    with serve(script) as (address, seen):
        config = MineConfig(captioner=address, captioner_model="eyes")
        run_pipeline([handbook], tmp_path / "out", config, InProcess())
    assert len(seen) == 40
    row = next(instructed_rows(Workspace(tmp_path / "out")))
    assert row.pair.query.generated_caption == "coloured shapes on a plain ground"


def annotate_keys(out: Path) -> list[str | None]:
    workspace = Workspace(out)
    return [workspace.done_key("annotate", part) for part in workspace.parts("annotate")]


@pytest.mark.usefixtures("stub")
def test_another_caption_prompt_captions_again(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        words = body["messages"][0]["content"][0]["text"]
        return completion(json.dumps({"caption": f"asked by {len(words)} letters"}))

    def asked_anew(image_url: str) -> list[dict[str, Any]]:
        (message,) = real(image_url)
        _, image = message["content"]
        return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]

    real = prompts.caption_messages
    plain, captioned = tmp_path / "plain", tmp_path / "captioned"
    with serve(script) as (address, seen):
        config = MineConfig(captioner=address, captioner_model="eyes")
        for out, settings in ((plain, MineConfig()), (captioned, config)):
            run_pipeline([handbook], out, settings, InProcess())
        before = {out: annotate_keys(out) for out in (plain, captioned)}
        monkeypatch.setattr(prompts, "CAPTION_VERSION", "caption-2")
        monkeypatch.setattr(prompts, "caption_messages", asked_anew)
        for out, settings in ((plain, MineConfig()), (captioned, config)):
            run_pipeline([handbook], out, settings, InProcess())
    assert len(seen) == 80
    assert annotate_keys(plain) == before[plain]
    assert not set(annotate_keys(captioned)) & set(before[captioned])
    row = next(instructed_rows(Workspace(captioned)))
    assert row.pair.query.generated_caption == "asked by 13 letters"


def test_only_an_endpoint_is_told_our_words() -> None:
    coca = MineConfig(captioner="open_clip:coca_ViT-L-14/weights.pt")
    assert prompts.CAPTION_VERSION not in captioner_settings(coca)
    assert captioner_settings(MineConfig()) == ("", "")


@pytest.mark.usefixtures("stub")
def test_an_endpoint_needs_a_model_name(handbook: Path, tmp_path: Path) -> None:
    config = MineConfig(instruct=InstructSettings(endpoint="http://127.0.0.1:9"))
    with pytest.raises(UsageError, match="which model"):
        run_pipeline([handbook], tmp_path / "out", config, InProcess())


@pytest.mark.parametrize(
    "named",
    [
        "open_clip:coca_ViT-L-14/laion2b_s13b_b90k",
        "open_clip:coca_ViT-L-14//nowhere/weights.pt",
    ],
)
def test_a_captioner_is_never_downloaded(named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file") as caught:
        run_pipeline([], tmp_path / "out", MineConfig(captioner=named), InProcess())
    assert "never downloaded" in caught.value.why
    assert "PATH" in caught.value.next_step


@pytest.mark.usefixtures("stub")
def test_what_is_captioned_needs_no_captioner(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "coca.pt"
    weights.touch()
    monkeypatch.setattr(captioner, "find_spec", lambda name: object())
    monkeypatch.setattr(captioner.CocaCaptioner, "caption", lambda self, images, funnel: {})
    config = MineConfig(captioner=f"open_clip:coca_ViT-L-14/{weights}")
    one = run_pipeline([handbook], tmp_path / "out", config, InProcess())
    weights.unlink()
    assert run_pipeline([handbook], tmp_path / "out", config, InProcess()) == one
    (handbook / "mosaic.html").unlink()
    with pytest.raises(ModelError, match="no weights file"):
        run_pipeline([handbook], tmp_path / "out", config, InProcess())


@pytest.mark.parametrize("named", ["open_clip:", "open_clip:coca", "open_clip:hf-hub:a/b"])
def test_a_captioner_has_a_model_and_a_file(named: str) -> None:
    with pytest.raises(UsageError, match="MODEL/WEIGHTS_FILE"):
        check_captioner(MineConfig(captioner=named))


def test_an_endpoint_that_captions_needs_a_model_name(tmp_path: Path) -> None:
    config = MineConfig(captioner="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="which model captions"):
        run_pipeline([], tmp_path / "out", config, InProcess())


def test_captions_without_their_package_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "coca.pt"
    weights.touch()
    monkeypatch.setattr(captioner, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="transformers"):
        check_captioner(MineConfig(captioner=f"open_clip:coca_ViT-L-14/{weights}"))


@pytest.fixture
def tiny_coca(tmp_path: Path) -> str:
    """The name of a CoCa of a few weights, known to open_clip."""
    from lensctl.models.backbone import backbone_config, open_clip

    config = backbone_config("coca_ViT-B-32")
    small = {"width": 32, "heads": 1, "layers": 1}
    config["embed_dim"] = 32
    config["vision_cfg"] |= {
        "width": 64, "head_width": 32, "layers": 1, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    config["text_cfg"] |= small
    config["multimodal_cfg"] |= small
    (tmp_path / "tiny-coca.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-coca.json")
    return "tiny-coca"


def test_coca_is_read_from_its_file(tiny_coca: str, tmp_path: Path) -> None:
    import open_clip
    import torch

    torch.manual_seed(5)
    made = open_clip.create_model(tiny_coca)
    torch.save(made.state_dict(), tmp_path / "coca.pt")
    model, _ = captioner._load_coca(tiny_coca, tmp_path / "coca.pt")
    assert not model.training
    assert torch.equal(model.text.text_projection, made.text.text_projection)


@pytest.mark.parametrize("data", [b"", b"junk junk", b"PK\3\4" + bytes(99)])
def test_what_is_no_weights_file_is_refused(data: bytes, tiny_coca: str, tmp_path: Path) -> None:
    (tmp_path / "coca.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match="holds no weights"):
        captioner._load_coca(tiny_coca, tmp_path / "coca.pt")


def test_a_model_that_writes_no_captions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="writes no captions"):
        captioner._load_coca("ViT-B-32", tmp_path / "w.pt")
