"""Where attention went: paired estimates from the tables of a reallocation run.

Each market is an arm, and so are its rivals: ``random bids`` through the same mechanism, a
``random mask`` of the same spend, ``lots`` without a market. All arms of a budget met the same
rows, so every difference is taken row by row before it is averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agent_economy.runs.reader import Run
from analysis.cells import NO_MARKET, REFERENCE, lead_mechanism, lead_policies
from analysis.examples import Scored
from analysis.intervals import LEVEL, RESAMPLES, VARIANT, Interval, by_variant
from analysis.readings import readings_of

MARKET, BIDS, MASK, LOTS = "market", "random bids", "random mask", "lots"
RIVALS = (BIDS, MASK, LOTS)
ALL_LAYERS = -1
VALUES = {
    "saliency": "gradient saliency",
    "idf": "rarity (IDF)",
    "leave_one_out": "leave one token out",
}
"""Definitions of a token's value as running text; the order is the page's."""


def nested(values_SK: ArrayLike) -> Interval:
    """The mean of rows measured under several seeds, with its percentile interval.

    Seeds are resampled, and rows within each seed drawn: rows of one seed share its calibration
    and its lots, so they are not independent. Errs on the wide side.

    Args:
        values_SK: one observation per seed and row; rows of different seeds are different rows.
            NaN where there is none.
    """
    values = np.atleast_2d(np.asarray(values_SK, dtype=np.float64))
    seen = np.isfinite(values)
    n = int(seen.sum())
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(values[seen].mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    weight_RX = _weights(*values.shape)
    drawn_R = weight_RX @ seen.ravel()
    total_R = weight_RX @ np.where(seen, values, 0.0).ravel()
    means_R = total_R[drawn_R > 0] / drawn_R[drawn_R > 0]
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


@cache
def _weights(seeds: int, rows: int) -> np.ndarray:
    """How often each resample draws each row of each seed, (R, seeds * rows)."""
    generator = np.random.default_rng(0)
    seeds_RS = generator.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    rows_RSK = generator.multinomial(rows, np.full(rows, 1 / rows), (RESAMPLES, seeds))
    return (seeds_RS[..., None] * rows_RSK).reshape(RESAMPLES, -1).astype(np.float64)


def lead_market(table: pd.DataFrame) -> tuple[str, str, str]:
    """Mechanism, policy and scope of the market that stands for the study."""
    mechanism = lead_mechanism(table)
    rows = table[table["mechanism"] == mechanism]
    return mechanism, lead_policies(rows)[mechanism], str(rows["scope"].iloc[0])


def markets(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Mechanism, policy and scope of every market that values agents, in the run's order."""
    cells = table[["mechanism", "policy", "scope"]].drop_duplicates()
    valued = cells[(cells["mechanism"] != NO_MARKET) & (cells["policy"] != REFERENCE)]
    return [tuple(row) for row in valued.to_numpy().tolist()]


def arms(table: pd.DataFrame, market: tuple[str, str, str]) -> dict[str, pd.DataFrame]:
    """The rows of a market and of its rivals; a rival that was not run is left out."""
    mechanism, policy, scope = market
    same = table[(table["mechanism"] == mechanism) & (table["scope"] == scope)]
    own = same[same["policy"] == policy]
    found = {
        MARKET: own[own["setting"] == "market"],
        BIDS: same[same["policy"] == REFERENCE],
        MASK: own[own["setting"] == "mask"],
        LOTS: table[table["mechanism"] == NO_MARKET],
    }
    return {arm: rows for arm, rows in found.items() if len(rows)}


def estimates(table: pd.DataFrame, measure: str, keys: Sequence[str]) -> pd.DataFrame:
    """What every arm of every market did to a measure of attention.

    Args:
        table: ``reallocation`` or ``spread``, perhaps some layers of it.
        measure: ``share``, ``entropy``, ``relative_entropy`` or ``gini``.
        keys: columns to tell apart, such as ``layer`` and ``value``.

    Returns:
        `VARIANT`, keys, ``arm`` and ``quantity``: ``dense``, ``scarce``, their difference
        ``change``, its parts ``composition`` and ``within``, and ``gain``, the market's measure
        minus the arm's; then ``mean, low, high, n``.
    """
    columns = [*VARIANT, *keys, "arm", "quantity", *Interval._fields]
    return pd.DataFrame(list(_estimates(table, measure, list(keys))), columns=columns)


def layer_means(table: pd.DataFrame, measure: str, keys: Sequence[str]) -> pd.DataFrame:
    """A table's measure as a mean over layers, every layer weighing the same.

    Pooled layers weigh by what they serve, so closing layers that look elsewhere moves the pooled
    share although no layer's own share moved. A row's layers count where all three views are known.
    """
    views = [f"{measure}_{view}" for view in ("dense", "composed", "scarce")]
    layers = table[table["layer"] != ALL_LAYERS].dropna(subset=views)
    by = [*VARIANT, "seed", "setting", "row", *keys]
    return layers.groupby(by, as_index=False, sort=False)[views].mean()


def _estimates(table: pd.DataFrame, measure: str, keys: list[str]) -> Iterator[tuple]:
    for market in markets(table):
        grids = {
            arm: {key: _grids(part, measure) for key, part in rows.groupby(
                ["budget_fraction", *keys], sort=True
            )}
            for arm, rows in arms(table, market).items()
        }  # fmt: skip
        for arm, found in grids.items():
            for key, (dense, composed, scarce) in found.items():
                quantities = {
                    "dense": dense,
                    "scarce": scarce,
                    "change": scarce - dense,
                    "composition": composed - dense,
                    "within": scarce - composed,
                }
                ours = grids[MARKET].get(key)
                if arm != MARKET and ours is not None:
                    quantities["gain"] = ours[2] - scarce
                for quantity, values in quantities.items():
                    yield (*market, *key, arm, quantity, *nested(values))


def _grids(rows: pd.DataFrame, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense, composed and scarce, each a seed x row array."""
    return tuple(
        rows.pivot(index="seed", columns="row", values=f"{measure}_{view}").to_numpy()
        for view in ("dense", "composed", "scarce")
    )


def utilities(run: Run) -> pd.DataFrame:
    """Utility of every arm of every market: `VARIANT`, ``arm``, ``unit`` and its interval.

    The dense model stands as one more arm, ``dense``, at every budget. Where the run kept each
    row's outcome, ``kept`` is the market's utility minus the dense one, paired by row (perplexity:
    the log of their ratio, lower being better counted as gain).
    """
    found = readings_of(run)
    if found is None:
        return pd.DataFrame(columns=[*VARIANT, "arm", "unit", *Interval._fields])
    measured = found.table().assign(setting="market")
    unit = measured["unit"].iloc[0]
    masks = _mask_utilities(run, unit).assign(setting="mask", unit=unit)
    table = pd.concat([measured, masks], ignore_index=True)
    dense = Scored(unit, run.table("dense")).interval if "dense" in run.tables else None
    dense = dense or Interval(1.0, 1.0, 1.0, 0)  # the cosine of the dense model to itself
    parts = []
    for market in markets(table):
        own = dict(zip(VARIANT[:3], market, strict=True))
        of_market = arms(table, market)
        parts += [rows.assign(**own, arm=arm) for arm, rows in of_market.items()]
        parts.append(of_market[MARKET].assign(**dense._asdict(), arm="dense"))
        parts.append(_kept(run, unit, of_market[MARKET]).assign(arm="kept"))
    return pd.concat(parts, ignore_index=True)[[*VARIANT, "arm", "unit", *Interval._fields]]


def _kept(run: Run, unit: str, market: pd.DataFrame) -> pd.DataFrame:
    """The rows of a market with its utility minus the dense model's."""
    if "dense" not in run.tables:
        return market.iloc[:0]
    dense = Scored(unit, run.table("dense"))
    cells = dict(list(run.table("examples").groupby(VARIANT)))
    kept = [
        Scored(unit, cells[tuple(key)]).gain(dense)._asdict() for key in market[VARIANT].to_numpy()
    ]
    return market.assign(**pd.DataFrame(kept, index=market.index))


def _mask_utilities(run: Run, unit: str) -> pd.DataFrame:
    if "mask_examples" not in run.tables:
        return by_variant(run.table("metrics"), "mask_utility").drop(columns="unit")
    groups = run.table("mask_examples").groupby(VARIANT, sort=False)
    rows = [(*key, *Scored(unit, part).interval) for key, part in groups]
    return pd.DataFrame(rows, columns=[*VARIANT, *Interval._fields])
