"""Slopes, R2 and rank correlation against NumPy and SciPy; intervals against their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from agent_economy.metrics import regression
from agent_economy.metrics.regression import fit, fit_groups, ratio, transfer


def sample(rows: int, each: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A noisy line with an error that a row's observations share, and some ties."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(rows).repeat_interleave(each)
    x = (torch.rand(rows * each, generator=generator, dtype=torch.float64) * 20).round() / 2
    shared = torch.randn(rows, generator=generator, dtype=torch.float64)[row]
    noise = torch.randn(rows * each, generator=generator, dtype=torch.float64)
    return x, 0.7 * x + 1 + shared + noise, row


def test_statistics_are_those_of_numpy_and_scipy() -> None:
    x, y, row = sample(15, 4, 0)
    found = fit(x, y, row)
    line = stats.linregress(x.numpy(), y.numpy())
    assert found.slope.value == pytest.approx(line.slope, rel=1e-9)
    assert found.intercept.value == pytest.approx(line.intercept, rel=1e-9)
    assert found.r2.value == pytest.approx(line.rvalue**2, rel=1e-9)
    assert found.rank.value == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-9)
    (slope,), _, _, _ = np.linalg.lstsq(x.numpy()[:, None], y.numpy(), rcond=None)
    wrong = ((y - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert found.slope_origin.value == pytest.approx(slope, rel=1e-9)
    assert found.r2_origin.value == pytest.approx(1 - float(wrong), rel=1e-9)
    assert (found.observations, found.rows) == (60, 15)


def test_every_resample_is_a_plain_regression_of_the_drawn_rows() -> None:
    """Weighted sums and weighted ranks against rows written out as often as they were drawn."""
    x, y, row = sample(6, 3, 1)
    weight_RB = regression._weights(6, 20, 5)
    lines = regression._lines(regression._sums(x, y, row, weight_RB))
    rank_R = regression._rank_correlation(x, y, weight_RB[:, row])
    for draw, weight_B in enumerate(weight_RB.long()):
        a, b = (each.repeat_interleave(weight_B[row]).numpy() for each in (x, y))
        line = stats.linregress(a, b)
        assert float(lines.slope[draw]) == pytest.approx(line.slope, rel=1e-9)
        assert float(lines.r2[draw]) == pytest.approx(line.rvalue**2, rel=1e-9)
        assert float(rank_R[draw]) == pytest.approx(stats.spearmanr(a, b).statistic, rel=1e-9)


def test_intervals_cover_the_truth() -> None:
    """Nine times in ten at least, though a row's observations share an error."""
    hits = [0, 0]
    for seed in range(100):
        x, y, row = sample(25, 4, seed)
        found = fit(x, y, row, resamples=300)
        centre = ratio(y - 0.7 * x, torch.ones_like(y), row, resamples=300)
        hits[0] += found.slope.low <= 0.7 <= found.slope.high
        hits[1] += centre.low <= 1 <= centre.high
    # Resampling observations one by one would cover the mean of shared errors 75 times.
    assert min(hits) >= 87, hits


def test_a_transferred_line_is_judged_where_it_was_not_fitted() -> None:
    x, _, row = sample(12, 3, 2)
    curved = transfer((x, 2 * x, row), (x, 2 * x + 5, row))
    assert curved.bias.value == pytest.approx(float((2 * x + 5).sum() / (2 * x).sum()))
    wrong = 25 * len(x) / float(((2 * x - (2 * x).mean()) ** 2).sum())
    assert curved.r2.value == pytest.approx(1 - wrong, rel=1e-9)
    same = transfer((x, 3 * x, row), (x, 3 * x, row + 100))
    assert same.bias == pytest.approx((1, 1, 1)) and same.r2.value == pytest.approx(1)


def test_a_ratio_of_sums() -> None:
    top, bottom = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, 2.0, 3.0])
    found = ratio(top, bottom, torch.tensor([0, 0, 1]))
    assert found.value == pytest.approx(14 / 6)
    assert found.low == pytest.approx(5 / 3) and found.high == pytest.approx(3)
    assert math.isnan(ratio(top, 0 * bottom, torch.tensor([0, 0, 1])).value)


def test_groups_are_points_of_totals_over_rows() -> None:
    """Against pandas-like sums written out, for the sample and for drawn rows."""
    generator = np.random.default_rng(4)
    x, y, size = (generator.random((5, 8)) + each for each in (0, 0.5, 1))  # groups x rows
    group, row = np.divmod(np.arange(40), 8)
    flat = [torch.from_numpy(each.ravel()) for each in (x, y, size, group, row)]
    found = fit_groups(*flat, resamples=50, seed=3)
    weight_RB = regression._weights(8, 50, 3).numpy()
    ranks, slopes = [], []
    for weight_B in weight_RB:
        a, b = (each @ weight_B / (size @ weight_B) for each in (x, y))
        ranks.append(stats.spearmanr(a, b).statistic)
        slopes.append(stats.linregress(a, b).slope)
    assert found.rank.value == pytest.approx(ranks[0])
    assert found.slope.value == pytest.approx(slopes[0])
    assert found.slope[1:] == pytest.approx(np.quantile(slopes[1:], [0.025, 0.975]))
    assert found.rank[1:] == pytest.approx(np.quantile(ranks[1:], [0.025, 0.975]))
    assert (found.observations, found.rows) == (5, 8)


def test_same_input_same_interval() -> None:
    x, y, row = sample(8, 2, 3)
    assert fit(x, y, row) == fit(x, y, row)
    assert fit(x, y, row, seed=1).slope.low != fit(x, y, row).slope.low


def test_what_is_not_defined_is_nan() -> None:
    flat, y, row = torch.full((6,), 2.0), torch.arange(6.0), torch.arange(6)
    found = fit(flat, y, row)
    assert math.isnan(found.slope.value) and math.isnan(found.rank.value)
    assert math.isnan(found.r2.value) and found.slope_origin.value == pytest.approx(1.25)
    alone = fit(y, 2 * y, torch.zeros(6, dtype=torch.long))
    assert alone.slope.value == pytest.approx(2) and math.isnan(alone.slope.low)
