"""Baselines, the searched weight, ties and intervals, from the walk's own results."""

from pathlib import Path

import numpy as np
import pytest

from lensctl.models.interface import Floats
from lensctl_training.benchmarks.methods import WEIGHTS, QueryVectors
from lensctl_training.benchmarks.published import COLUMNS, published
from lensctl_training.benchmarks.registry import NAMES, LoadOptions, load_benchmark
from lensctl_training.benchmarks.report import MethodScore, Report, table
from lensctl_training.benchmarks.run import EvalOptions, run_benchmark
from lensctl_training.benchmarks.scores import TaskScorer
from support.benchmark_data import MAKERS, MeanColour, make_circo, make_fashioniq


def score(name: str, tmp_path: Path, model: MeanColour | None = None) -> Report:
    root = MAKERS[name](tmp_path / name)
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, baselines=("image", "text", "sum"))
    return run_benchmark(name, root, [model or MeanColour()], LoadOptions(), options)


def by_method(report: Report) -> dict[str, MethodScore]:
    return {method.method: method for method in report.methods}


def test_baselines_by_hand(tmp_path: Path) -> None:
    """CIRCO val 0 is (red, green) -> yellow, green, blue; val 1 is (blue, red) -> white."""
    methods = by_method(score("circo", tmp_path))
    # Image only, red: red; then yellow = magenta 0.707; white 0.577; green = blue = cyan 0.
    # Right answers: yellow behind red and, tied, magenta: 3; green and blue behind white and,
    # tied, cyan, with one another's company: ranks 6 and 7. AP@10 = (1/3 + 2/6 + 3/7) / 3.
    # Blue: blue; magenta = cyan; white rank 4: AP 1/4.
    expected = ((1 / 3 + 2 / 6 + 3 / 7) / 3 + 1 / 4) / 2
    assert methods["image only"].tasks[0].values["mAP@10"] == pytest.approx(expected)
    # Text only, green: green 1; yellow behind the tied cyan: 3; blue: behind white, and tied with
    # red and magenta: rank 7. Red: white behind yellow and magenta and red: 4.
    expected = ((1 + 2 / 3 + 3 / 7) / 3 + 1 / 4) / 2
    assert methods["text only"].tasks[0].values["mAP@10"] == pytest.approx(expected)


def test_the_weight_of_the_sum_is_the_best_on_the_set(tmp_path: Path) -> None:
    report = score("circo", tmp_path)
    benchmark = report.benchmark
    model = MeanColour()
    from lensctl_training.benchmarks.gallery import GalleryStore

    gallery = GalleryStore(tmp_path / "cache", "circo", benchmark.images, model).encode()
    vectors = QueryVectors(benchmark, gallery, model)
    means = {}
    for weight in WEIGHTS:
        total = 0.0
        for task in benchmark.tasks[:2]:
            asked = vectors.baseline(task, "sum", weight)
            scorer = TaskScorer(task, asked.candidates, asked.candidate_ok, gallery.available)
            total += scorer.score(asked.queries).values[task.measures[0].name]
        means[weight] = total
    chosen = by_method(report)["sum"]
    assert chosen.weight is not None
    assert means[chosen.weight] == max(means.values())
    assert min(means.values()) < max(means.values())
    text = table(report)
    assert f"sum x{chosen.weight:g}" in text
    assert "the weight of the text was searched on these very queries" in text


def test_baselines_do_not_apply_to_captions(tmp_path: Path) -> None:
    report = score("flickr30k", tmp_path)
    assert list(by_method(report)) == ["model"]
    assert "note: the baseline sum does not apply to this benchmark" in table(report)


def test_a_sketch_without_an_instruction_has_no_text_baseline(tmp_path: Path) -> None:
    methods = by_method(score("tu-berlin", tmp_path))
    assert list(methods) == ["model", "image only"]
    assert methods["image only"].tasks[0].values == methods["model"].tasks[0].values


def test_the_instruction_of_sketches_is_given_to_the_model(tmp_path: Path) -> None:
    root = MAKERS["tu-berlin"](tmp_path / "tu-berlin")
    benchmark = load_benchmark("tu-berlin", root, LoadOptions(instruction="a green thing"))
    assert {query.text for query in benchmark.tasks[0].queries} == {"a green thing"}


class Constant(MeanColour):
    """Gives every picture the same vector."""

    def encode_images(self, pixels: Floats) -> Floats:
        return np.ones((len(pixels), 3), dtype=np.float32)


@pytest.mark.parametrize("name", ["fashioniq", "cirr", "circo", "genecis"])
def test_a_model_without_preferences_never_wins_by_the_order_of_a_list(
    name: str, tmp_path: Path
) -> None:
    report = score(name, tmp_path, Constant("constant"))
    for task in report.methods[0].tasks:
        first = [value for measure, value in task.values.items() if measure.endswith("@1")]
        assert all(value == 0 for value in first)
        if task.values:
            assert task.tied == task.queries
    assert "a right and a wrong candidate tie, which counts against" in table(report)


def test_long_texts_are_counted(tmp_path: Path) -> None:
    class Short(MeanColour):
        def truncated(self, text: str) -> bool:
            return "sleeves" in text

    report = score("fashioniq", tmp_path, Short())
    # One query, in both orders of its captions.
    assert report.methods[0].cut_texts == 2
    assert "the end of 2 long texts was left out" in table(report)


def test_every_query_is_in_the_denominator(tmp_path: Path) -> None:
    benchmark = load_benchmark("circo", make_circo(tmp_path / "circo"))
    ok = np.zeros(len(benchmark.images), dtype=bool)
    vectors = np.zeros((2, 3), dtype=np.float32)
    targets = np.zeros((len(ok), 3), dtype=np.float32)
    score_ = TaskScorer(benchmark.tasks[0], targets, ok, ok).score(vectors)
    assert score_.queries == score_.without_image == 2
    assert set(score_.values.values()) == {0.0}


def test_published_rows_are_rows_of_the_benchmarks(tmp_path: Path) -> None:
    for name in NAMES:
        benchmark = load_benchmark(name, MAKERS[name](tmp_path / name))
        rows = {(task.name, measure.name) for task in benchmark.tasks for measure in task.measures}
        rows |= {(mean.label, mean.measure) for mean in benchmark.means}
        assert published(name).keys() <= rows
        assert all(len(row.values) == len(COLUMNS) for row in published(name).values())


def test_two_models_share_a_table(tmp_path: Path) -> None:
    root = make_fashioniq(tmp_path / "fashioniq")
    options = EvalOptions(cache=tmp_path / "cache", quiet=True)
    models = [MeanColour("one"), Constant("two")]
    report = run_benchmark("fashioniq", root, models, LoadOptions(), options)
    assert table(report).splitlines()[1].split()[:4] == ["task", "measure", "one", "two"]
    row = next(row for row in report.rows() if row.measure == "R@1" and row.task.startswith("mean"))
    assert row.values == (pytest.approx(7 / 9), 0.0)


def test_nothing_is_searched_on_hidden_answers(tmp_path: Path) -> None:
    root = make_circo(tmp_path / "circo")
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, baselines=("sum",))
    reading = LoadOptions(splits=("test",))
    report = run_benchmark("circo", root, [MeanColour()], reading, options)
    method = by_method(report)["sum"]
    assert method.weight is None
    assert "searched on these very queries" not in table(report)
    assert "nothing to score" in table(report)
    assert len(method.tasks[0].results[0].top) == 7
