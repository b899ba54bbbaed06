"""Intervals and paired differences against slow and theoretical ones; two runs compared."""

import hashlib
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DataError, UsageError
from lensctl.models.interface import Floats
from lensctl_training.benchmarks.bootstrap import RESAMPLES, Estimate, estimate, mean_of
from lensctl_training.benchmarks.differences import compare_runs, read_method
from lensctl_training.benchmarks.registry import LoadOptions
from lensctl_training.benchmarks.report import Report, document, table
from lensctl_training.benchmarks.run import EvalOptions, run_benchmark, write_results
from lensctl_training.benchmarks.triplet_set import evaluate_data, write_triplet_report
from support.benchmark_data import MAKERS, MeanColour
from support.training_runs import write_shards


def names(count: int, prefix: str = "q") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def one(values: list[float], ids: list[str]) -> Estimate:
    [found] = estimate(np.array(values)[:, None], ids)
    return found


def slow_interval(parts: list[tuple[list[float], list[str]]]) -> tuple[float, float]:
    """Of the mean over parts: resample lists query by query, sort, interpolate by hand."""
    draws = []
    for _, ids in parts:
        seed = hashlib.sha256("\0".join(ids).encode()).hexdigest()
        draws.append(np.random.default_rng(int(seed, 16)))
    means = []
    for _ in range(RESAMPLES):
        drawn = [
            [values[place] for place in draw.integers(0, len(ids), len(ids))]
            for draw, (values, ids) in zip(draws, parts, strict=True)
        ]
        means.append(sum(sum(each) / len(each) for each in drawn) / len(drawn))
    means.sort()
    ends = []
    for share in (0.025, 0.975):
        whole, rest = divmod(share * (RESAMPLES - 1), 1)
        below, above = means[int(whole)], means[int(whole) + 1]
        ends.append(below + rest * (above - below))
    return ends[0], ends[1]


def test_intervals_are_those_of_a_slow_bootstrap() -> None:
    draw = np.random.default_rng(3)
    mine, theirs = draw.random(31).tolist(), draw.random(31).tolist()
    other, ids = draw.random(12).tolist(), names(31)
    difference = one(mine, ids) - one(theirs, ids)
    by_query = [a - b for a, b in zip(mine, theirs, strict=True)]
    assert difference.value == pytest.approx(statistics.fmean(by_query))
    assert difference.interval == pytest.approx(slow_interval([(by_query, ids)]))
    parts = [(mine, ids), (other, names(12, "other"))]
    mean = mean_of([one(*part) for part in parts])
    assert mean.value == pytest.approx((statistics.fmean(mine) + statistics.fmean(other)) / 2)
    assert mean.interval == pytest.approx(slow_interval(parts))


def width(found: Estimate) -> float:
    low, high = found.interval
    assert low <= found.value <= high
    return high - low


def test_widths_are_those_of_the_normal_approximation() -> None:
    """3.92 standard errors: of a mean, of a paired difference, of means over parts."""
    draw = np.random.default_rng(1)
    easy = draw.random(2000) < 0.5
    mine, theirs = (easy & (draw.random(2000) < share) for share in (0.9, 0.8))
    a, b = (one(values.astype(float).tolist(), names(2000)) for values in (mine, theirs))
    assert width(a) == pytest.approx(3.92 * mine.std() / 2000**0.5, rel=0.1)
    paired = 3.92 * (mine.astype(float) - theirs).std() / 2000**0.5
    assert width(a - b) == pytest.approx(paired, rel=0.1)
    assert paired < 0.7 * float(np.hypot(width(a), width(b)))
    small = one(theirs[:500].astype(float).tolist(), names(500))
    apart = 3.92 * np.hypot(mine.std() / 2000**0.5, theirs[:500].std() / 500**0.5) / 2
    assert width(mean_of([a, small])) == pytest.approx(apart, rel=0.1)
    # The same photos asked for in two domains are not twice as many independent queries.
    together = 3.92 * (mine.astype(float) + theirs).std() / 2 / 2000**0.5
    assert width(mean_of([a, b])) == pytest.approx(together, rel=0.1)


class Constant(MeanColour):
    """Gives every picture the same vector."""

    def encode_images(self, pixels: Floats) -> Floats:
        return np.ones((len(pixels), 3), dtype=np.float32)


def evaluate(name: str, tmp_path: Path, *models: MeanColour, baselines: tuple = ()) -> Report:
    root = tmp_path / name
    if not root.exists():
        MAKERS[name](root)
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, baselines=baselines)
    return run_benchmark(name, root, models, LoadOptions(), options)


def test_methods_of_a_run_are_compared_also_in_their_means(tmp_path: Path) -> None:
    models = (MeanColour("one"), Constant("two"))
    report = evaluate("fashioniq", tmp_path, *models, baselines=("image", "text"))
    found = json.loads(json.dumps(document(report)))
    pairs = dict.fromkeys((d["method"], d["reference"]) for d in found["differences"])
    assert list(pairs) == [
        ("one", "one, image only"),
        ("one", "one, text only"),
        ("one", "two"),
        ("two", "two, image only"),
        ("two", "two, text only"),
    ]
    mean = "mean, original gallery, captions 1-2"
    [row] = [r for r in found["rows"] if (r["task"], r["measure"]) == (mean, "R@1")]
    [found_here] = [
        d
        for d in found["differences"]
        if (d["reference"], d["task"], d["measure"]) == ("two", mean, "R@1")
    ]
    assert found_here["difference"] == pytest.approx(row["values"][0] - row["values"][3])
    parts = []
    for task in next(m.tasks for m in report.benchmark.means if m.label == mean):
        mine, theirs = (
            next(t for t in report.methods[place].tasks if t.task == task).results
            for place in (0, 3)
        )
        by_query = [a.values[0] - b.values[0] for a, b in zip(mine, theirs, strict=True)]
        parts.append((by_query, [result.query.id for result in mine]))
    low, high = slow_interval(parts)
    assert found_here["interval"] == pytest.approx([low, high])
    assert found_here["excludes_0"] == (low > 0 or high < 0)
    low, high = row["intervals"][0]
    assert low <= row["values"][0] <= high
    printed = table(report)
    shown = f"{100 * found_here['difference']:+.2f} ["
    assert "one - two" in printed and shown in printed
    write_results(report, tmp_path / "out")
    page = (tmp_path / "out" / "two" / "page.html").read_text()
    assert "one - two" in page and "one - one" not in page


def test_one_method_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    report = evaluate("cirr", tmp_path, MeanColour())
    assert document(report)["differences"] == []
    assert "differences" not in table(report)


def run(*arguments: object):
    return CliRunner().invoke(app, ["eval", "difference", *map(str, arguments)])


def test_two_runs_differ_as_two_models_of_one_run_do(tmp_path: Path) -> None:
    models = MeanColour("one"), Constant("two")
    for model in models:
        write_results(evaluate("fashioniq", tmp_path, model), tmp_path / model.info.name)
    together = document(evaluate("fashioniq", tmp_path, *models))["differences"]
    result = run(tmp_path / "one", tmp_path / "two", "--json")
    assert result.exit_code == 0, result.exception
    compared = json.loads(result.stdout)["differences"]
    names = ("task", "measure", "difference", "excludes_0")
    assert [[d[n] for n in names] for d in compared] == [[d[n] for n in names] for d in together]
    assert [d["interval"] for d in compared] == [list(d["interval"]) for d in together]
    printed = run(tmp_path / "one", tmp_path / "two").stdout
    assert printed.startswith(f"fashioniq (percent)\nA: one ({tmp_path / 'one'})\nB: two")


def test_what_was_not_asked_the_same_is_refused(tmp_path: Path) -> None:
    for name in ("fashioniq", "cirr"):
        write_results(evaluate(name, tmp_path, MeanColour()), tmp_path / f"{name}-run")
    fashioniq, cirr = (read_method(tmp_path / f"{n}-run") for n in ("fashioniq", "cirr"))
    with pytest.raises(DataError, match="cannot be compared") as caught:
        compare_runs(fashioniq, cirr)
    assert caught.value.why == "one is of fashioniq, the other of cirr"
    other = read_method(tmp_path / "cirr-run")
    other.queries["val"][0] = "another"
    with pytest.raises(DataError) as caught:
        compare_runs(cirr, other)
    assert caught.value.why == "the queries or measures of val differ"
    other = read_method(tmp_path / "cirr-run")
    other.hashes = {**other.hashes, next(iter(other.hashes)): "other"}
    with pytest.raises(DataError, match="cannot be compared") as caught:
        compare_runs(cirr, other)
    assert "changed between them" in caught.value.why
    with pytest.raises(UsageError, match="has no method 'sum'"):
        read_method(tmp_path / "cirr-run", "sum")
    with pytest.raises(DataError, match="holds no results"):
        read_method(tmp_path)


def test_runs_on_triplets_are_compared_by_the_same_code(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_shards(data)
    reports = {}
    for model in (MeanColour("one"), Constant("two")):
        report = evaluate_data(
            [data],
            [model],
            ("image",),
            device="auto",
            precision="auto",
            batch_size=4,
            quiet=True,
        )
        name = model.info.name
        reports[name] = report
        written = write_triplet_report(report, tmp_path / f"{name}.json")
        assert [path.name for path in written] == [f"{name}.json", f"{name}.rankings.jsonl"]
    lines = (tmp_path / "one.rankings.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(reports["one"].keys)
    ids = list(reports["one"].keys)
    mine, theirs = (reports[n].ranks[n].values["mrr"].tolist() for n in ("one", "two"))
    by_query = [a - b for a, b in zip(mine, theirs, strict=True)]
    result = run(tmp_path / "one.json", tmp_path / "two.json", "--json")
    assert result.exit_code == 0, result.exception
    [mrr] = [d for d in json.loads(result.stdout)["differences"] if d["measure"] == "mrr"]
    assert mrr["difference"] == pytest.approx(statistics.fmean(by_query))
    assert mrr["interval"] == pytest.approx(slow_interval([(by_query, ids)]))
    written = json.loads((tmp_path / "one.json").read_text())
    own = slow_interval([(mine, ids)])
    assert written["intervals"]["one"]["mrr"] == pytest.approx(own)
    assert {d["reference"] for d in written["differences"]} == {"one, image only"}
    baseline = read_method(tmp_path / "one.json", "one, image only")
    assert compare_runs(baseline, read_method(tmp_path / "two.json")).notes == ()
    assert "one - one, image only" in reports["one"].table()
    (tmp_path / "one.rankings.jsonl").unlink()
    with pytest.raises(DataError, match="holds no results"):
        read_method(tmp_path / "one.json")
