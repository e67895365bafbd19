"""How well predictions hold: slopes, R2 and rank correlation, with bootstrap intervals over rows.

Several observations come from one row (one text under several allocations), so rows are resampled
whole (the cluster bootstrap; Davison and Hinkley 1997, section 3.8). A resample only changes how
often each row counts: every statistic is a function of weighted sums, computed for all resamples at
once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEVEL = 0.95
RESAMPLES = 1000


class Estimate(NamedTuple):
    """A number with its percentile interval; the bounds are NaN where there is only one row."""

    value: float
    low: float
    high: float


class Fit(NamedTuple):
    """How measured values follow predicted ones.

    Attributes:
        slope_origin: least squares through zero, ``sum xy / sum xx``.
        r2_origin: share of the measured variance that this line explains, ``1 - sum (y - sx)^2 /
            sum (y - mean y)^2``; below 0 it does worse than the mean.
        slope: least squares with a free intercept.
        intercept: of that line.
        r2: share of the measured variance that it explains, the squared correlation.
        rank: Spearman's rank correlation.
        observations: how many pairs.
        rows: how many rows they come from.
    """

    slope_origin: Estimate
    r2_origin: Estimate
    slope: Estimate
    intercept: Estimate
    r2: Estimate
    rank: Estimate
    observations: int
    rows: int


class Transfer(NamedTuple):
    """How a line through zero fitted on some observations does on others.

    Attributes:
        bias: total measured over total predicted; above 1 predictions are too low.
        r2: share of the variance that is explained; below 0 it does worse than the mean.
    """

    bias: Estimate
    r2: Estimate


def fit(
    predicted: Float[Tensor, "n"],
    measured: Float[Tensor, "n"],
    row: Int[Tensor, "n"],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Fit:
    """Regress measured values on predicted ones.

    Args:
        predicted: in any unit.
        measured: in any unit.
        row: which row each pair comes from.
        resamples: of the bootstrap.
        level: the coverage aimed at.
        seed: of the resampling alone.

    Returns:
        The fit; NaN where a statistic is not defined, as for predictions that are all the same.
    """
    x, y = predicted.double(), measured.double()
    rows, place = torch.unique(row, return_inverse=True)
    weight_RB = _weights(len(rows), resamples, seed)
    lines = _lines(_sums(x, y, place, weight_RB))
    rank_R = _rank_correlation(x, y, weight_RB[:, place])
    return _fit(lines, rank_R, len(x), len(rows), level)


def transfer(
    fitted: tuple[Tensor, Tensor, Tensor],
    tested: tuple[Tensor, Tensor, Tensor],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Transfer:
    """Fit a line through zero on some observations and judge it on others.

    A row that gives to both is resampled in both.

    Args:
        fitted: predicted, measured and row, as for ``fit``.
        tested: the same of the observations that the line is judged on.
        resamples: of the bootstrap.
        level: the coverage aimed at.
        seed: of the resampling alone.
    """
    rows, place = torch.unique(torch.cat((fitted[2], tested[2])), return_inverse=True)
    weight_RB = _weights(len(rows), resamples, seed)
    split = len(fitted[2])
    slope_R = _lines(
        _sums(fitted[0].double(), fitted[1].double(), place[:split], weight_RB)
    ).slope_origin
    n, x, y, xx, xy, yy = _sums(tested[0].double(), tested[1].double(), place[split:], weight_RB)
    wrong_R = yy - 2 * slope_R * xy + slope_R.square() * xx
    bias_R, r2_R = y / (slope_R * x), 1 - wrong_R / _spread(n, y, yy)
    return Transfer(_estimate(bias_R, len(rows), level), _estimate(r2_R, len(rows), level))


def fit_groups(
    predicted: Float[Tensor, "n"],
    measured: Float[Tensor, "n"],
    size: Float[Tensor, "n"],
    group: Int[Tensor, "n"],
    row: Int[Tensor, "n"],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Fit:
    """Regress between groups: each is one point, its rows' totals per unit of size.

    For group ``g`` the point is ``(sum predicted / sum size, sum measured / sum size)``. Rows are
    resampled, groups are not: the interval says how well these groups' points are known.

    Args:
        predicted: one value per row and group.
        measured: one value per row and group.
        size: what both are counted per.
        group: which point each observation belongs to.
        row: which row it comes from.
        resamples: of the bootstrap.
        level: the coverage aimed at.
        seed: of the resampling alone.
    """
    rows, at_row = torch.unique(row, return_inverse=True)
    groups, at_group = torch.unique(group, return_inverse=True)
    weight_RB = _weights(len(rows), resamples, seed)
    terms = torch.stack((predicted.double(), measured.double(), size.double()))
    total = terms.new_zeros(3, len(groups) * len(rows))
    total.index_add_(1, at_group * len(rows) + at_row, terms)
    x_RG, y_RG, size_RG = (weight_RB @ each.view(len(groups), -1).T for each in total)
    x_RG, y_RG = x_RG / size_RG, y_RG / size_RG
    terms = torch.stack((torch.ones_like(x_RG), x_RG, y_RG, x_RG**2, x_RG * y_RG, y_RG**2))
    lines = _lines(tuple(terms.sum(-1)))
    rank_R = _correlation(_row_ranks(x_RG), _row_ranks(y_RG), torch.ones_like(x_RG))
    return _fit(lines, rank_R, len(groups), len(rows), level)


def ratio(
    top: Float[Tensor, "n"],
    bottom: Float[Tensor, "n"],
    row: Int[Tensor, "n"],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """``sum top / sum bottom`` with its interval over rows; a mean where ``bottom`` is all ones."""
    rows, place = torch.unique(row, return_inverse=True)
    weight_RB = _weights(len(rows), resamples, seed)
    terms = torch.stack((top.double(), bottom.double()))
    over_B = terms.new_zeros(2, len(rows)).index_add_(1, place, terms)
    top_R, bottom_R = weight_RB @ over_B[0], weight_RB @ over_B[1]
    bottom_R = torch.where(bottom_R == 0, torch.nan, bottom_R)
    return _estimate(top_R / bottom_R, len(rows), level)


class _Lines(NamedTuple):
    """Both lines, one of each per resample."""

    slope_origin: Tensor
    r2_origin: Tensor
    slope: Tensor
    intercept: Tensor
    r2: Tensor


def _weights(rows: int, resamples: int, seed: int) -> Float[Tensor, "R rows"]:
    """How often each resample draws each row; the first one is the sample itself."""
    generator = torch.Generator().manual_seed(seed)
    drawn_RB = torch.randint(rows, (resamples, rows), generator=generator)
    weight_RB = torch.zeros(resamples, rows, dtype=torch.float64)
    weight_RB.scatter_add_(1, drawn_RB, torch.ones_like(drawn_RB, dtype=torch.float64))
    return torch.cat((torch.ones(1, rows, dtype=torch.float64), weight_RB))


def _sums(x: Tensor, y: Tensor, place: Tensor, weight_RB: Tensor) -> tuple[Tensor, ...]:
    """Sums of 1, x, y, xx, xy and yy for every resample."""
    terms = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y))
    over_B = terms.new_zeros(len(terms), weight_RB.shape[1]).index_add_(1, place, terms)
    return tuple((weight_RB @ over_B.T).unbind(1))


def _spread(n: Tensor, y: Tensor, yy: Tensor) -> Tensor:
    """Squared distance to the mean, NaN where it is no more than rounding."""
    spread = yy - y.square() / n
    return torch.where(spread > 1e-12 * yy, spread, torch.nan)


def _lines(sums: tuple[Tensor, ...]) -> _Lines:
    n, x, y, xx, xy, yy = sums
    slope_origin = xy / torch.where(xx > 0, xx, torch.nan)
    spread_y, spread_x = _spread(n, y, yy), _spread(n, x, xx)
    together = xy - x * y / n
    slope = together / spread_x
    return _Lines(
        slope_origin,
        1 - (yy - slope_origin * xy) / spread_y,
        slope,
        (y - slope * x) / n,
        together.square() / (spread_x * spread_y),
    )


def _fit(lines: _Lines, rank_R: Tensor, observations: int, rows: int, level: float) -> Fit:
    """Estimates of every statistic."""

    def known(value_R: Tensor) -> Estimate:
        return _estimate(value_R, rows, level)

    return Fit(
        slope_origin=known(lines.slope_origin),
        r2_origin=known(lines.r2_origin),
        slope=known(lines.slope),
        intercept=known(lines.intercept),
        r2=known(lines.r2),
        rank=known(rank_R),
        observations=observations,
        rows=rows,
    )


def _rank_correlation(x: Tensor, y: Tensor, weight_RI: Tensor) -> Tensor:
    """Spearman's correlation when every pair counts so many times; ties share their mean rank."""
    return _correlation(_ranks(x, weight_RI), _ranks(y, weight_RI), weight_RI)


def _correlation(a_RI: Tensor, b_RI: Tensor, weight_RI: Tensor) -> Tensor:
    """Pearson's correlation when every pair counts so many times."""
    n_R1 = weight_RI.sum(1, keepdim=True)
    a_RI = a_RI - (weight_RI * a_RI).sum(1, keepdim=True) / n_R1
    b_RI = b_RI - (weight_RI * b_RI).sum(1, keepdim=True) / n_R1
    together_R = (weight_RI * a_RI * b_RI).sum(1)
    spread_R = ((weight_RI * a_RI**2).sum(1) * (weight_RI * b_RI**2).sum(1)).sqrt()
    return together_R / torch.where(spread_R > 0, spread_R, torch.nan)


def _row_ranks(x_RG: Tensor) -> Tensor:
    """Mean rank of each value among those of its resample."""
    below_RGG = (x_RG[:, None] < x_RG[..., None]).double()
    equal_RGG = (x_RG[:, None] == x_RG[..., None]).double()
    return below_RGG.sum(-1) + (equal_RGG.sum(-1) + 1) / 2


def _ranks(x: Tensor, weight_RI: Tensor) -> Tensor:
    """Mean rank of each value among all, counted with their weights."""
    values, place = torch.unique(x, return_inverse=True)
    tied_RV = weight_RI.new_zeros(len(weight_RI), len(values)).index_add_(1, place, weight_RI)
    return (tied_RV.cumsum(1) - (tied_RV - 1) / 2)[:, place]


def _estimate(value_R: Tensor, rows: int, level: float) -> Estimate:
    """The sample's own value, and quantiles of the resamples' where there are any."""
    value, drawn = float(value_R[0]), value_R[1:]
    drawn = drawn[~drawn.isnan()]
    if rows < 2 or not len(drawn) or value != value:
        return Estimate(value, float("nan"), float("nan"))
    low, high = drawn.quantile(drawn.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return Estimate(value, low, high)
