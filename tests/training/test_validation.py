"""Validation: its numbers, when it is made, and what it decides."""

from dataclasses import replace

import pytest
import torch

from lensctl.errors import DataError, UsageError
from lensctl_training import loop
from lensctl_training.benchmark_validation import ModelInMemory
from lensctl_training.benchmarks.triplet_set import encode_triplets, score_triplets
from lensctl_training.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from lensctl_training.data.held_out import hold_out
from lensctl_training.data.shards import ShardWriter
from lensctl_training.log import read_log
from lensctl_training.model import TripletEncoder, build_model
from lensctl_training.train import train
from lensctl_training.validation import validate
from support.benchmark_data import make_cirr
from support.training_runs import make_recipe, make_triplets, write_shards


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return TripletEncoder(build_model(make_recipe().model)).eval()


def shared_triplets():
    """40 triplets with 25 targets; some ask the same question, some query images are targets."""
    triplets = make_triplets(40)
    for n in range(25, 40):
        triplets[n] = replace(triplets[n], target=triplets[n - 25].target)
    for n in (3, 9, 30):
        question = {"query": triplets[n + 1].query, "instruction": triplets[n + 1].instruction}
        triplets[n] = replace(triplets[n], **question)
    triplets[6] = replace(triplets[6], query=triplets[2].target)
    return triplets


def test_training_and_eval_triplets_give_the_same_numbers(encoder):
    triplets = shared_triplets()
    side = ModelInMemory(encoder)
    [evaluated] = score_triplets(encode_triplets(triplets, side), side, side).values()
    scores = evaluated.summary()
    validated = validate(encoder, hold_out(triplets, most=100))
    assert validated.metrics == pytest.approx(scores, abs=1e-6)
    assert scores["candidates"] == 25 + 40 - 3 - 1


def test_pairs_that_lead_both_ways_leave_no_further_candidates(encoder):
    there = make_triplets(4)
    back = [replace(t, query=t.target, target=t.query) for t in there]
    held_out = hold_out([*there, *back], most=100)
    assert not held_out.gallery
    assert validate(encoder, held_out).metrics["candidates"] == 8


def test_a_bad_held_out_image_is_left_out_and_named_before_the_first_step(tmp_path):
    triplets = make_triplets(9, negatives=1)
    triplets[2] = replace(triplets[2], target=b"\xff\xd8 no image")
    triplets[4] = replace(triplets[4], negatives=(b"\xff\xd8",))
    with ShardWriter(tmp_path / "held") as writer:
        for triplet in triplets:
            writer.write(triplet)
    held = {"validation": str(tmp_path / "held"), "max_validation": 6}
    write_shards(tmp_path / "shards")
    data = {"scenes": 0, "train": str(tmp_path / "shards"), "shuffle_buffer": 20} | held
    outcome = train(make_recipe(data=data), tmp_path / "out")
    assert outcome.metrics["queries"] == 6
    page = (tmp_path / "out/report.html").read_text()
    assert "held-out k0002 (not an image)" in page and "held-out k0004" in page
    with pytest.raises(DataError, match="more than the 1 allowed"):
        train(make_recipe(data=data | {"max_bad": 1}), tmp_path / "strict")
    for path in (tmp_path / "held").iterdir():
        path.unlink()
    with ShardWriter(tmp_path / "held") as writer:
        writer.write(triplets[2])
    with pytest.raises(DataError, match="holds no usable triplet") as caught:
        train(make_recipe(data=data), tmp_path / "none")
    assert "k0002" in caught.value.why and not read_log(tmp_path / "none/log.jsonl")


def test_no_picture_is_retrieved_twice(encoder):
    held_out = hold_out(shared_triplets(), most=100)
    for row in validate(encoder, held_out).best:
        assert len({held_out.candidate(int(place)) for place in row}) == 5


def validated_steps(out):
    return [r["step"] for r in read_log(out / "log.jsonl") if r["kind"] == "validation"]


def without_held_out(tmp_path, **tables):
    """A recipe whose data are shards alone."""
    write_shards(tmp_path / "shards")
    data = {"scenes": 0, "train": str(tmp_path / "shards"), "shuffle_buffer": 20}
    return make_recipe(data=data, **tables)


def test_a_benchmark_alone_validates_and_stops_early(tmp_path):
    cirr = str(make_cirr(tmp_path / "cirr"))
    table = {"cirr": cirr, "metric": "cirr/R@1", "patience": 1, "every": 1}
    rates = {"rate": 1e-12, "backbone_rate": 0.0}
    recipe = without_held_out(tmp_path, validation=table, optimiser=rates)
    outcome = train(recipe, tmp_path / "out")
    assert outcome.step == 2 and validated_steps(tmp_path / "out") == [1, 2]
    assert "cirr/R@1" in (tmp_path / "out/report.html").read_text()


def test_patience_with_nothing_to_validate_on_is_said(tmp_path, capsys):
    outcome = train(without_held_out(tmp_path, validation={"patience": 2}), tmp_path / "out")
    assert outcome.step == 8 and validated_steps(tmp_path / "out") == []
    assert "nothing to validate on" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["median_rank", "reference_first", "recall@3", "cirr/R@1"])
def test_a_metric_that_cannot_choose_is_refused_before_the_first_step(tmp_path, metric):
    with pytest.raises(UsageError, match=f"{metric}' cannot choose") as caught:
        train(make_recipe(validation={"metric": metric}), tmp_path)
    assert "recall@1, recall@5, recall@10, recall@50, mrr" in caught.value.why
    assert not find_checkpoints(tmp_path / "checkpoints") and not read_log(tmp_path / "log.jsonl")


def test_a_wrong_benchmark_folder_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(DataError):
        train(make_recipe(validation={"cirr": str(tmp_path / "no")}), tmp_path)
    assert not read_log(tmp_path / "log.jsonl")
    cirr = make_cirr(tmp_path / "cirr")
    next((cirr / "img_raw/dev").iterdir()).unlink()
    with pytest.raises(DataError, match="1 of 7 images are missing"):
        train(make_recipe(validation={"cirr": str(cirr)}), tmp_path)
    assert not read_log(tmp_path / "log.jsonl")


def test_a_failing_validation_loses_no_step_and_is_made_up_for(tmp_path, monkeypatch):
    def failing(encoder, held_out):
        raise MemoryError

    recipe = make_recipe(saving={"every": 100})
    monkeypatch.setattr(loop, "validate", failing)
    with pytest.raises(MemoryError):
        train(recipe, tmp_path)
    monkeypatch.undo()
    assert list(find_checkpoints(tmp_path / "checkpoints")) == [4]
    train(recipe, tmp_path, resume=True)
    assert validated_steps(tmp_path) == [4, 8]


def fake_scores(monkeypatch, scores):
    """Validation gives these (recall@1, mrr), one pair after the other."""
    left, real = iter(scores), loop.validate

    def faked(encoder, held_out):
        found = real(encoder, held_out)
        names = zip(("recall@1", "mrr"), next(left), strict=True)
        return replace(found, metrics=found.metrics | dict(names))

    monkeypatch.setattr(loop, "validate", faked)


@pytest.mark.parametrize("damaged", [True, False])
def test_a_lost_best_checkpoint_is_said_and_the_next_best_exported(
    tmp_path, monkeypatch, capsys, damaged
):
    fake_scores(monkeypatch, [(0.9, 0), (0.4, 0), (0.5, 0)])
    recipe = make_recipe(
        validation={"every": 3},
        saving={"keep_best": 2},
        optimiser={"steps": 8, "decay": "constant"},
    )
    train(recipe, tmp_path)
    found = find_checkpoints(tmp_path / "checkpoints")
    assert list(found) == [3, 8]
    found[3].write_bytes(b"damaged") if damaged else found[3].unlink()
    train(recipe, tmp_path, resume=True)
    assert "step 3, the best, is lost; that of step 8 is exported" in capsys.readouterr().err
    assert "The exported model is that of step 8." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "metric", "score"),
    [
        ({"validation": {"metric": "mrr"}}, "mrr", 0.3),
        ({"data": {"max_validation": 5}}, "recall@1", 0.4),
    ],
)
def test_another_metric_on_resume_forgets_the_best_by_the_old(
    tmp_path, monkeypatch, changed, metric, score
):
    """Other held-out triplets make another metric of the same name."""
    fake_scores(monkeypatch, [(0.9, 0.1), (0.5, 0.2), (0.4, 0.3)])
    train(make_recipe(), tmp_path)
    assert list(find_checkpoints(tmp_path / "checkpoints")) == [4, 8]
    train(make_recipe(**changed), tmp_path, resume=True)
    [(step, path)] = find_checkpoints(tmp_path / "checkpoints").items()
    progress = load_checkpoint(path)["progress"]
    assert step == 8 and progress["scores"] == {8: score} and progress["metric"] == metric


@pytest.mark.parametrize("says_its_metric", [True, False])
def test_the_same_metric_on_resume_keeps_the_best(tmp_path, monkeypatch, says_its_metric):
    fake_scores(monkeypatch, [(0.9, 0.1), (0.5, 0.2)])
    train(make_recipe(), tmp_path)
    if not says_its_metric:  # as checkpoints once were
        path = find_checkpoints(tmp_path / "checkpoints")[8]
        state = load_checkpoint(path)
        del state["progress"]["metric"]
        save_checkpoint(path, state)
    train(make_recipe(), tmp_path, resume=True)
    assert list(find_checkpoints(tmp_path / "checkpoints")) == [4, 8]
