"""CIRR and CIRCO validation of a model in training, by the code of `lensctl eval`."""

import numpy as np
import pytest

from lensctl.errors import UsageError
from lensctl_training import benchmark_validation
from lensctl_training.benchmark_validation import (
    ModelInMemory,
    measures,
    open_benchmarks,
    validate_benchmarks,
)
from lensctl_training.log import read_log
from lensctl_training.model import TripletEncoder, build_model
from lensctl_training.recipe import ValidationRecipe
from lensctl_training.train import train
from support.benchmark_data import make_circo, make_cirr
from support.training_runs import make_recipe


def test_both_benchmarks_are_scored_on_their_validation_splits_only(tmp_path):
    make_cirr(tmp_path / "cirr")
    make_circo(tmp_path / "circo")
    encoder = TripletEncoder(build_model(make_recipe().model)).train()
    recipe = ValidationRecipe(cirr=str(tmp_path / "cirr"), circo=str(tmp_path / "circo"))
    benchmarks = open_benchmarks(recipe)
    scores = validate_benchmarks(encoder, benchmarks)
    assert list(scores) == measures(benchmarks)
    assert {"cirr/R@1", "cirr/Rsub@1", "circo/mAP@5"} <= set(scores)
    assert all(0 <= value <= 1 for value in scores.values())
    assert encoder.training


def test_the_model_in_memory_keeps_the_interface():
    side = ModelInMemory(TripletEncoder(build_model(make_recipe().model)).eval())
    pixels = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    embeddings = side.encode_images(pixels)
    targets = side.make_targets(embeddings)
    assert np.abs(side.make_queries(embeddings, [""] * 3) - targets).max() < 1e-6
    assert np.allclose(np.linalg.norm(side.encode_texts(["a", "b"]), axis=1), 1, atol=1e-5)
    assert side.truncated("word " * 40) and not side.truncated("word")


def test_images_are_encoded_in_the_precision_of_the_run():
    model = build_model(make_recipe().model).eval()
    pixels = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    whole, half = (ModelInMemory(TripletEncoder(model, bf16=bf16)) for bf16 in (False, True))
    assert (whole.precision, half.precision) == ("fp32", "bf16")
    difference = np.abs(whole.encode_images(pixels) - half.encode_images(pixels)).max()
    assert 0 < difference < 0.05


def test_images_are_decoded_by_as_many_threads_as_the_run_has_workers(tmp_path, monkeypatch):
    make_cirr(tmp_path / "cirr")
    chosen, evaluate = [], benchmark_validation.evaluate

    def watched(benchmark, models, options):
        chosen.append(options.workers)
        return evaluate(benchmark, models, options)

    monkeypatch.setattr(benchmark_validation, "evaluate", watched)
    table = {"cirr": str(tmp_path / "cirr"), "metric": "cirr/R@1"}
    for workers in (0, 3):
        recipe = make_recipe(data={"workers": workers}, validation=table, optimiser={"steps": 2})
        train(recipe, tmp_path / str(workers))
    assert chosen == [2, 3]


def test_a_benchmark_chooses_the_best_checkpoint(tmp_path, capsys):
    make_cirr(tmp_path / "cirr")
    table = {"cirr": str(tmp_path / "cirr"), "metric": "cirr/Rsub@1"}
    train(make_recipe(validation=table, optimiser={"steps": 4}), tmp_path / "out")
    [record] = [r for r in read_log(tmp_path / "out/log.jsonl") if r["kind"] == "validation"]
    assert "cirr/R@1" in record
    said = "validation decodes and encodes 7 images of cirr anew every 4 steps"
    assert said in capsys.readouterr().err
    with pytest.raises(UsageError, match="'cirr/R@3' cannot choose"):
        wrong = make_recipe(validation=table | {"metric": "cirr/R@3"}, optimiser={"steps": 4})
        train(wrong, tmp_path / "wrong")
