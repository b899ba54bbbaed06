"""The embedded model through the whole walk."""

from pathlib import Path

import numpy as np

from lensctl.models.registry import open_model
from lensctl_training.benchmarks.registry import LoadOptions
from lensctl_training.benchmarks.run import EvalOptions, run_benchmark
from support.benchmark_data import make_circo


def test_mini_on_circo(tmp_path: Path) -> None:
    root = make_circo(tmp_path / "circo")
    options = EvalOptions(cache=tmp_path / "cache", quiet=True, baselines=("image", "text", "sum"))
    reports = [
        run_benchmark("circo", root, [open_model("mini")], LoadOptions(), options) for _ in range(2)
    ]
    first, again = (report.rows() for report in reports)
    assert first == again
    method = reports[0].methods[0]
    assert method.info.name == "mini"
    assert len(method.info.encoder_fingerprint) >= 12
    assert method.precision == "fp32"
    values = np.array([row.values for row in first], dtype=float)
    assert values.shape == (8, 4)
    assert ((values >= 0) & (values <= 1)).all()
    # The image alone puts itself first: two of the val queries' right answers are other images.
    images = {task.task: task for task in reports[0].methods[1].tasks}
    for result in images["val"].results:
        assert result.top[0] == result.query.image
        assert result.best_rank > 1
