"""All eight benchmarks, from files in their own format to scores worked out by hand.

The working is in the docstrings of support/benchmark_data.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from lensctl.errors import DataError, UsageError
from lensctl_training.benchmarks.registry import NAMES, LoadOptions, load_benchmark
from lensctl_training.benchmarks.report import Report, document, table
from lensctl_training.benchmarks.run import EvalOptions, run_benchmark, write_results
from support.benchmark_data import MAKERS, MeanColour, make_circo, make_cirr, make_fashioniq


def score(name: str, tmp_path: Path, **options: Any) -> Report:
    root = tmp_path / name
    if not root.exists():
        MAKERS[name](root)
    chosen = EvalOptions(cache=tmp_path / "cache", quiet=True, batch_size=3, **options)
    return run_benchmark(name, root, [MeanColour()], LoadOptions(), chosen)


def values(report: Report) -> dict[tuple[str, str], float | None]:
    return {(row.task, row.measure): row.values[0] for row in report.rows()}


def expect(report: Report, expected: dict[tuple[str, str], float]) -> None:
    found = values(report)
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_fashioniq(tmp_path: Path) -> None:
    report = score("fashioniq", tmp_path)
    for order in ("captions 1-2", "captions 2-1"):
        original, val = f"dress, original gallery, {order}", f"dress, val gallery, {order}"
        expect(
            report,
            {
                (original, "R@1"): 1 / 3,
                (original, "R@5"): 2 / 3,
                (original, "R@10"): 1,
                (val, "R@1"): 1 / 3,
                (val, "R@5"): 1,
                (f"mean, original gallery, {order}", "R@1"): 7 / 9,
                (f"mean, original gallery, {order}", "R@5"): 8 / 9,
                (f"mean, val gallery, {order}", "R@5"): 1,
            },
        )


def test_fashioniq_joins_the_captions_in_both_orders(tmp_path: Path) -> None:
    benchmark = load_benchmark("fashioniq", make_fashioniq(tmp_path / "fashioniq"))
    texts = {task.name: task.queries[0].text for task in benchmark.tasks}
    assert texts["dress, original gallery, captions 1-2"] == "more green and shorter"
    assert texts["dress, val gallery, captions 2-1"] == "shorter and more green"


def test_cirr(tmp_path: Path) -> None:
    report = score("cirr", tmp_path)
    expect(
        report,
        {
            ("val", "R@1"): 0,
            ("val", "R@5"): 1,
            ("val, subset", "Rsub@1"): 0.5,
            ("val, subset", "Rsub@2"): 1,
        },
    )
    assert {task.task: task.candidates for task in report.methods[0].tasks} == {
        "val": 7,
        "val, subset": 5,
        "test": 7,
        "test, subset": 5,
    }


def test_cirr_submissions(tmp_path: Path) -> None:
    report = score("cirr", tmp_path)
    write_results(report, tmp_path / "out")
    folder = tmp_path / "out" / "mean-colour"
    names = ["yellow", "white", "green", "magenta", "cyan", "blue"]
    assert json.loads((folder / "cirr-test1-recall.json").read_text()) == {
        "version": "rc2",
        "metric": "recall",
        "21": [f"test1-{name}" for name in names],
    }
    assert json.loads((folder / "cirr-test1-recall_subset.json").read_text()) == {
        "version": "rc2",
        "metric": "recall_subset",
        "21": ["test1-white", "test1-green", "test1-cyan"],
    }


def test_circo(tmp_path: Path) -> None:
    report = score("circo", tmp_path)
    expect(
        report,
        {
            ("val", "mAP@5"): 0.5,
            ("val", "mAP@10"): ((1 + 2 / 4 + 3 / 7) / 3 + 0.5) / 2,
            ("val, target image only", "R@5"): 1,
        },
    )
    groups = report.methods[0].tasks[0].groups
    both = ((1 + 2 / 4 + 3 / 7) / 3 + 0.5) / 2
    assert groups == pytest.approx({"addition": both, "negation": (1 + 2 / 4 + 3 / 7) / 3})


def test_circo_answers_that_are_named_twice_count_once(tmp_path: Path) -> None:
    def repeat(rows: Any) -> None:
        for row in rows:
            row["gt_img_ids"] *= 2

    once = score("circo", tmp_path).methods[0].tasks[0]
    root = make_circo(tmp_path / "again")
    _spoil(root / "annotations/val.json", repeat)
    queries = load_benchmark("circo", root).tasks[0].queries
    assert [len(query.positives) for query in queries] == [3, 1]
    options = EvalOptions(cache=tmp_path / "again-cache", quiet=True)
    twice = run_benchmark("circo", root, [MeanColour()], LoadOptions(), options)
    assert twice.methods[0].tasks[0].values == once.values


def test_circo_submission_keeps_the_reference_and_has_no_image_twice(tmp_path: Path) -> None:
    report = score("circo", tmp_path)
    write_results(report, tmp_path / "out")
    written = json.loads((tmp_path / "out/mean-colour/circo-test.json").read_text())
    # yellow 4, white 7, red 1 = green 2, magenta 5 = cyan 6, blue 3; ties in the order of the list
    assert written == {"0": [4, 7, 1, 2, 5, 6, 3]}


def test_genecis(tmp_path: Path) -> None:
    report = score("genecis", tmp_path)
    expect(
        report,
        {
            ("focus_attribute", "R@1"): 1,
            ("change_attribute", "R@1"): 0,
            ("change_attribute", "R@2"): 1,
            ("focus_object", "R@1"): 0.5,
            ("focus_object", "R@2"): 0.5,
            ("focus_object", "R@3"): 1,
            ("change_object", "R@1"): 0,
            ("mean", "R@1"): 0.375,
            ("mean", "R@2"): 0.875,
            ("mean", "R@3"): 1,
        },
    )
    assert any("1 of 2 galleries list an image twice" in note for note in report.notes())


def test_genecis_without_its_attribute_files_has_no_mean(tmp_path: Path) -> None:
    root = MAKERS["genecis"](tmp_path / "genecis")
    (root / "genecis/focus_attribute.json").unlink()
    report = score("genecis", tmp_path)
    assert ("mean", "R@1") not in values(report)
    assert any("focus_attribute.json is absent" in note for note in report.notes())


def test_dtin(tmp_path: Path) -> None:
    report = score("dtin", tmp_path)
    expect(
        report,
        {
            ("cartoon", "true R@10"): 1 / 3,
            ("cartoon", "true R@50"): 1,
            ("cartoon", "hit R@10"): 0.5,
            ("origami", "true R@10"): 0.5,
            ("origami", "hit R@50"): 0.5,
            ("toy", "true R@10"): 1,
            ("sculpture", "hit R@10"): 1,
            ("mean", "true R@10"): (1 / 3 + 0.5 + 1 + 1) / 4,
            ("mean", "hit R@10"): 0.75,
            ("mean", "true R@50"): 0.875,
        },
    )
    assert report.methods[0].tasks[0].candidates == 21
    assert any(note.startswith("origami: 1 of 2 queries have no right") for note in report.notes())


def test_tu_berlin(tmp_path: Path) -> None:
    expect(
        score("tu-berlin", tmp_path),
        {
            ("sketches", "mAP, plain"): (0.75 + 7 / 12) / 2,
            ("sketches", "mAP, interpolated"): (0.75 + 2 / 3) / 2,
            ("sketches", "P@100, of min(k, right)"): 1,
            ("sketches", "P@100, of k"): 0.02,
        },
    )


@pytest.mark.parametrize("name", ["flickr30k", "coco"])
def test_captions(name: str, tmp_path: Path) -> None:
    expect(
        score(name, tmp_path),
        {
            ("image to text", "R@1"): 2 / 3,
            ("image to text", "R@5"): 1,
            ("text to image", "R@1"): 5 / 6,
            ("text to image", "R@5"): 1,
        },
    )


@pytest.mark.parametrize("name", NAMES)
def test_results_can_be_repeated_from_their_json(name: str, tmp_path: Path) -> None:
    report = score(name, tmp_path)
    write_results(report, tmp_path / "out")
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["benchmark"] == name
    assert found["data"]["files"].keys() == report.benchmark.files.keys()
    assert all(len(digest) == 64 for digest in found["data"]["files"].values())
    assert len(found["data"]["content_hash"]) == 64
    assert found["options"]["precision"] == "auto"
    assert found["methods"][0]["encoder_fingerprint"] == "mean-colour-encoder"
    assert found["software"]["numpy"]
    again = json.loads(json.dumps(document(score(name, tmp_path))))
    assert again["methods"] == found["methods"]
    page = (tmp_path / "out/mean-colour/page.html").read_text()
    assert "data:image/" in page
    rankings = (tmp_path / "out/mean-colour/rankings.jsonl").read_text().splitlines()
    assert len(rankings) == sum(len(task.queries) for task in report.benchmark.tasks)


def test_the_table_has_the_published_numbers_and_their_caveats(tmp_path: Path) -> None:
    text = table(score("circo", tmp_path))
    line = next(line for line in text.splitlines() if line.startswith("val ") and "mAP@5 " in line)
    assert line.split()[:3] == ["val", "mAP@5", "50.00"]
    assert "23.1 [1]" in line
    assert "[1] published on the hidden test split, ours on val" in text
    assert "arXiv 2403.19651" in text


def test_a_row_that_was_not_published_is_a_dash(tmp_path: Path) -> None:
    text = table(score("fashioniq", tmp_path))
    line = next(line for line in text.splitlines() if "val gallery" in line and "mean" in line)
    assert line.split()[-4:] == ["-", "-", "-", "-"]


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no benchmark 'lasco'"):
        load_benchmark("lasco", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_benchmark(name, tmp_path)
    assert "layout" in caught.value.next_step


def _spoil(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_duplicate_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    circo = make_circo(tmp_path / "circo")
    _spoil(circo / "annotations/val.json", lambda rows: rows.append(rows[0]))
    with pytest.raises(DataError, match=r"val\.json cannot be used") as caught:
        load_benchmark("circo", circo)
    assert caught.value.why == "1 query ids occur more than once, such as 0"
    cirr = make_cirr(tmp_path / "cirr")
    _spoil(cirr / "image_splits/split.rc2.val.json", lambda rows: rows.pop("dev-white"))
    with pytest.raises(DataError) as caught:
        load_benchmark("cirr", cirr)
    assert "dev-white, which is not in the split" in caught.value.why
    fashion = make_fashioniq(tmp_path / "fashioniq")
    _spoil(fashion / "image_splits/split.dress.val.json", lambda rows: rows.append(rows[0]))
    with pytest.raises(DataError) as caught:
        load_benchmark("fashioniq", fashion)
    assert "1 image ids occur more than once" in caught.value.why


def test_damaged_annotations_are_refused(tmp_path: Path) -> None:
    circo = make_circo(tmp_path / "circo")
    _spoil(circo / "annotations/test.json", lambda rows: rows[0].pop("shared_concept"))
    with pytest.raises(DataError) as caught:
        load_benchmark("circo", circo)
    assert caught.value.why == "annotation 0 lacks shared_concept"
    (circo / "annotations/val.json").write_text("[")
    with pytest.raises(DataError) as caught:
        load_benchmark("circo", circo)
    assert caught.value.why.startswith("it is not JSON")
    load_benchmark("circo", make_circo(tmp_path / "whole"), LoadOptions(splits=("val",)))
