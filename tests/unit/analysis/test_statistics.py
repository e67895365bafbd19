"""Gini, Lorenz and the bootstrap against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.inequality import gini, lorenz
from analysis.intervals import bootstrap, by_variant


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3, 3, 3], 0.0), ([0, 0, 0, 1], 0.75), ([1, 2, 3], 2 / 9), ([1, 3], 0.25), ([0, 0], 0.0)],
)
def test_gini_of_known_vectors(values: list[float], expected: float) -> None:
    assert gini(values) == pytest.approx(expected, abs=1e-12)


def test_gini_is_the_mean_absolute_difference_over_twice_the_mean() -> None:
    values = np.random.default_rng(0).lognormal(size=50)
    by_pairs = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(by_pairs, rel=1e-12)
    assert gini(7 * values) == pytest.approx(gini(values), rel=1e-12)


def test_lorenz_runs_from_nobody_to_everybody() -> None:
    population, held = lorenz([4, 1, 3])
    assert population.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert held.tolist() == pytest.approx([0, 1 / 8, 1 / 2, 1])


@pytest.mark.parametrize("values", [[], [-1.0, 2.0], [np.nan]])
def test_lorenz_refuses_what_has_no_curve(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite holding"):
        lorenz(values)


def test_interval_of_a_constant_is_that_constant() -> None:
    assert bootstrap(np.full((3, 8), 0.1)) == (0.1, 0.1, 0.1, 24)


def test_interval_of_one_reading_is_unknown() -> None:
    mean, low, high, n = bootstrap([[0.7, np.nan]])
    assert (mean, n) == (0.7, 1)
    assert np.isnan([low, high]).all()


def test_interval_of_nothing_is_not_a_number() -> None:
    assert bootstrap([[np.nan]]).n == 0


def test_interval_is_seeded_and_holds_the_mean() -> None:
    values = np.random.default_rng(1).normal(5, 1, (4, 10))
    one = bootstrap(values)
    assert one == bootstrap(values)
    assert one.low < one.mean < one.high
    assert one != bootstrap(values, seed=1)


def test_seeds_that_repeat_the_same_batches_do_not_narrow_the_interval() -> None:
    batches = np.random.default_rng(2).normal(size=(1, 12))
    once, thrice = bootstrap(batches), bootstrap(np.repeat(batches, 3, axis=0))
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.15)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        values = generator.normal(0, 1, (1, 30)) + generator.normal(0, 0.1, (5, 30))
        interval = bootstrap(values)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_by_variant_keeps_the_order_of_the_run_and_sorts_budgets() -> None:
    cell = {"policy": "taylor", "scope": "token", "metric": "utility", "unit": "score"}
    rows = [
        {**cell, "mechanism": name, "budget_fraction": budget, "seed": 0, "step": s, "value": s}
        for name in ("zebra", "ant")
        for budget in (1.0, 0.5)
        for s in (0, 1)
    ]
    found = by_variant(pd.DataFrame(rows), "utility")
    assert list(found["mechanism"]) == ["zebra", "zebra", "ant", "ant"]
    assert list(found["budget_fraction"]) == [0.5, 1.0, 0.5, 1.0]
    assert set(found["mean"]) == {0.5}
    assert by_variant(pd.DataFrame(rows), "welfare").empty
