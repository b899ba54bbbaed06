"""`eval triplets` on real shards, by hand, and by the function that training calls."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.errors import DataError
from lensctl_training.benchmarks.triplet_set import TripletReport, evaluate_data
from lensctl_training.benchmarks.triplets import evaluate_triplets, share_answers
from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.triplet import Triplet
from support.benchmark_data import COLOURS, MeanColour


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), COLOURS[colour]).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


def shards(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    with ShardWriter(folder) as writer:
        for number, (query, instruction, target) in enumerate(rows):
            key = f"t{number:03d}"
            writer.write(Triplet(key, jpeg(query), jpeg(target), instruction))
    return folder


def report_on(data: Path, *baselines: str) -> TripletReport:
    return evaluate_data(
        [data],
        [MeanColour()],
        baselines,  # type: ignore[arg-type]
        device="auto",
        precision="auto",
        batch_size=2,
        quiet=True,
    )


def score(data: Path, *baselines: str) -> dict[str, dict[str, float]]:
    return report_on(data, *baselines).document()["scores"]


def test_scores_by_hand(tmp_path: Path) -> None:
    """Candidates: targets yellow, white, cyan and the query images red and blue.

    (red, green) -> yellow: rank 1. (red, green) -> white is the same question, so that both yellow
    and white are right for both: rank 1 again. (blue, red) -> cyan: white 0.816, red = blue =
    0.707, cyan = yellow = 0.5: rank 5, behind its own image.
    """
    rows = [("red", "green", "yellow"), ("red", "green", "white"), ("blue", "red", "cyan")]
    report = report_on(shards(tmp_path / "data", rows), "image", "text", "sum")
    scores = report.document()["scores"]
    model = scores["mean-colour"]
    assert model["queries"] == 3
    assert model["candidates"] == 5
    assert model["recall@1"] == pytest.approx(2 / 3)
    assert model["recall@5"] == 1
    assert model["mrr"] == pytest.approx((1 + 1 + 1 / 5) / 3)
    assert model["reference_first"] == pytest.approx(1 / 3)
    # The image alone always finds itself first.
    assert scores["mean-colour, image only"]["recall@1"] == 0
    assert scores["mean-colour, image only"]["reference_first"] == 1
    assert any("weight searched on this set" in name for name in scores)
    assert "3 queries, 5 candidates" in report.table()


def test_a_target_that_is_repeated_is_one_candidate(tmp_path: Path) -> None:
    rows = [("red", "green", "yellow"), ("blue", "red and green", "yellow")]
    model = score(shards(tmp_path / "data", rows))["mean-colour"]
    assert model["candidates"] == 3
    # The second question is for white: yellow 0.816, red = blue = 0.577.
    assert model["recall@1"] == 1
    assert model["tied"] == 0


def test_share_answers() -> None:
    positives, repeated = share_answers(["x", "y", "x", "z"], ["q", "q", "r", "r"])
    assert [row.tolist() for row in positives] == [[0, 1], [0, 1], [0, 3], [0, 3]]
    assert repeated.tolist() == [2]


def test_shared_answers_agree_with_a_plain_walk() -> None:
    """Random triplets on few pictures, against sorting the distinct pictures for every query."""
    draw = np.random.default_rng(0)
    for _ in range(200):
        pictures = draw.integers(-3, 4, (8, 2)).astype(np.float64)
        count = int(draw.integers(1, 9))
        queries, targets = draw.integers(0, 8, count), draw.integers(0, 8, count)
        asked = draw.integers(-3, 4, (8, 2)).astype(np.float64)[queries]
        names = [str(target) for target in targets]
        positives, repeated = share_answers(names, [str(query) for query in queries])
        scores = evaluate_triplets(asked, pictures[targets], None, positives, [repeated] * count)
        hits = 0
        for row in range(count):
            right = {int(t) for t, q in zip(targets, queries, strict=True) if q == queries[row]}
            distinct = sorted(set(map(int, targets)))
            ranked = sorted(distinct, key=lambda p, r=row: (-(asked[r] @ pictures[p]), p in right))
            hits += ranked[0] in right
        assert scores["recall@1"] == pytest.approx(hits / count)
        assert scores["candidates"] == len(set(map(int, targets)))


def test_two_models_of_one_name_are_two_rows(tmp_path: Path) -> None:
    models = [MeanColour(), MeanColour()]
    models[1].info = replace(models[1].info, lens_fingerprint="0123456789abcdef")
    data = shards(tmp_path / "data", [("red", "green", "yellow")])
    found = evaluate_data(
        [data], models, (), device="auto", precision="auto", batch_size=2, quiet=True
    ).document()
    labels = ["mean-colour (mean-col)", "mean-colour (01234567)"]
    assert list(found["scores"]) == labels
    assert [model["label"] for model in found["models"]] == labels


def test_a_jsonl_file_is_read_as_training_reads_it(tmp_path: Path) -> None:
    for colour in ("red", "yellow"):
        (tmp_path / f"{colour}.jpg").write_bytes(jpeg(colour))
    row = {"query": "red.jpg", "target": "yellow.jpg", "instruction": "green"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert score(tmp_path / "rows.jsonl")["mean-colour"]["recall@1"] == 1


@pytest.mark.parametrize(("name", "content"), [("rows.jsonl", "{}"), ("rows.txt", "no shard")])
def test_what_is_no_set_of_triplets_is_said_plainly(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="the triplets cannot be scored") as caught:
        score(tmp_path / name)
    assert name in caught.value.why
    assert "recipe" not in caught.value.next_step


def test_an_undecodable_picture_is_named(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data") as writer:
        writer.write(Triplet("bad", b"\xff\xd8 no jpeg", jpeg("red"), "greener"))
    with pytest.raises(DataError, match="the query image of bad cannot be decoded"):
        score(tmp_path / "data")


def test_the_document_can_be_repeated(tmp_path: Path) -> None:
    data = shards(tmp_path / "data", [("red", "green", "yellow")])
    found = evaluate_data(
        [data], [MeanColour()], (), device="auto", precision="auto", batch_size=2, quiet=True
    ).document()
    again = json.loads(json.dumps(found))
    assert again["models"][0]["lens_fingerprint"] == "mean-colour-lens"
    assert len(again["models"][0]["content_hash"]) == 64
    assert again["software"]["pillow"]
