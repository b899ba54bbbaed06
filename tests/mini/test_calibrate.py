"""Score curves."""

import numpy as np
import pytest

from lensctl_training.mini.calibrate import fit_curve


def test_a_known_curve_is_found_again():
    rng = np.random.default_rng(0)
    cosines = rng.uniform(0, 1, 20_000)
    matches = rng.random(20_000) < 1 / (1 + np.exp(-15 * (cosines - 0.4)))
    curve = fit_curve(cosines[matches], cosines[~matches])
    assert curve["slope"] == pytest.approx(15, rel=0.1)
    assert curve["midpoint"] == pytest.approx(0.4, abs=0.01)


def test_pairs_that_never_overlap_give_a_finite_slope():
    curve = fit_curve(np.array([0.8, 0.9]), np.array([0.1, 0.2]))
    assert 0 < curve["slope"] < 1000
    assert 0.2 < curve["midpoint"] < 0.8


def test_the_shipped_curves_rise(query_side):
    curves = query_side.info.curves
    assert set(curves) == {"image", "composed", "text"}
    for curve in curves.values():
        low, high = curve.relevance([0.0, 0.9])
        assert low < 0.5 < high
