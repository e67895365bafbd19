"""What the best misreport gains, against the number of agents, and of what order that is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits import ratio_of, rows_of
from analysis.intervals import LEVEL

BEST, FIXED = "best", "fixed"
ALL_BIDS, ONE_BID, BY_AGENT = "all_bids", "one_bid", "all_bids_charged_by_agent"
SHADE = "shade"
_TRUTHFUL = ("truthful", 1.0)
_LIE = ["family", "level"]
_KEYS = ["market", "mechanism", "deviation"]
_RESAMPLES = 1000

#: Gains below this share of rent are the rounding of sums of credits, not gains.
NOTHING = 1e-9


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of market, mechanism, deviation, number of agents and way to judge.

    ``value``, ``low`` and ``high`` are the gain as a share of the rent that truthful bids leave at
    a uniform price. ``best``: the misreport that gains most in each market, known in hindsight, or
    the truth. ``fixed``: the one that gained most on the other half of the markets.
    """
    return pd.DataFrame(list(_gains(table)))


def _gains(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for key, wide, rent in _markets(table):
        named = dict(zip([*_KEYS, "agents"], key, strict=True))
        fixed_T, chosen = _fixed(wide)
        families = pd.Series([family for family, _ in wide.idxmax(axis=1)])
        for judged, gain_T, what in (
            (BEST, wide.max(axis=1).to_numpy(), families.value_counts().index[0]),
            (FIXED, fixed_T, " or ".join(dict.fromkeys(chosen))),
        ):
            rows = pd.DataFrame({"text": range(len(gain_T)), "gain": gain_T, "rent": rent})
            yield {
                **named,
                "judged": judged,
                "misreport": what,
                **ratio_of(rows, "gain", "rent")._asdict(),
            }


def orders(table: pd.DataFrame) -> pd.DataFrame:
    """The gain's order in the number of agents, with intervals over markets.

    ``gain ~ N ** order``: least squares of log gain on log N over all numbers of agents, each
    point a ratio of sums over its markets. Markets are resampled within each number of agents.
    ``largest`` is the largest gain in any market, as a share of the mean rent; where it is
    rounding there is no order (NaN).
    """
    rows: list[dict[str, Any]] = []
    parts: dict[tuple, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for key, wide, rent in _markets(table):
        best_T = wide.max(axis=1).to_numpy()
        parts.setdefault(key[:-1], []).append((key[-1], best_T, rent))
    for key, found in parts.items():
        agents_N = np.array([agents for agents, *_ in found], dtype=float)
        gain_RN = np.stack([_ratios(best_T, rent_T) for _, best_T, rent_T in found], -1)
        slope_R = _slopes(agents_N, gain_RN)
        value, drawn = slope_R[0], slope_R[1:][np.isfinite(slope_R[1:])]
        low = high = np.nan
        if np.isfinite(value) and len(drawn):
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        largest = max(float(best_T.max() / rent_T.mean()) for _, best_T, rent_T in found)
        named = dict(zip(_KEYS, key, strict=True))
        found_ = {"order": value, "low": low, "high": high, "largest": largest}
        rows.append({**named, "from": agents_N.min(), "to": agents_N.max(), **found_})
    return pd.DataFrame(rows)


def _markets(table: pd.DataFrame) -> Iterator[tuple[tuple, pd.DataFrame, np.ndarray]]:
    """For each cell its gains, markets by misreports, and each market's rent."""
    table = table.assign(row=table["draw"])
    for key, rows in table.groupby([*_KEYS, "agents"], sort=False):
        rows = rows.assign(text=rows_of(rows))
        wide = rows.pivot(index="text", columns=_LIE, values="gain")
        # Bidding the values is always open to it, and wins ties.
        wide.insert(0, _TRUTHFUL, 0.0)
        yield key, wide, rows.groupby("text")["uniform_rent"].first().to_numpy()


def _fixed(wide: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Gains of the misreport that was best on the other half of the markets; its families."""
    gain_TM = wide.to_numpy()
    half_T = np.arange(len(gain_TM)) % 2
    gain_T, chosen = np.zeros(len(gain_TM)), []
    for half in (0, 1):
        pick = int(gain_TM[half_T != half].sum(0).argmax())
        chosen.append(str(wide.columns[pick][0]))
        gain_T[half_T == half] = gain_TM[half_T == half, pick]
    return gain_T, chosen


def _ratios(gain_T: np.ndarray, rent_T: np.ndarray) -> np.ndarray:
    """Sum over sum: of the sample itself, then of every resample of its markets."""
    generator, markets = np.random.default_rng(0), len(gain_T)
    weight_RT = generator.multinomial(markets, np.full(markets, 1 / markets), _RESAMPLES)
    weight_RT = np.vstack((np.ones(markets), weight_RT))
    gain_R, rent_R = weight_RT @ gain_T, weight_RT @ rent_T
    ratio_R: np.ndarray = gain_R / np.where(rent_R > 0, rent_R, np.nan)
    return ratio_R


def _slopes(agents_N: np.ndarray, gain_RN: np.ndarray) -> np.ndarray:
    """Least squares of log gain on log N; NaN where a gain is nothing or there is one N only."""
    x_N = np.log(agents_N) - np.log(agents_N).mean()
    if len(agents_N) < 2:
        return np.full(len(gain_RN), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        y_RN = np.where(gain_RN > NOTHING, np.log(gain_RN), np.nan)
    slope_R: np.ndarray = (y_RN @ x_N) / (x_N @ x_N)
    return slope_R
