"""What a supply shock did: prices that settle, losses beyond the clairvoyant's, what stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.intervals import bootstrap

STEADY, SHOCK = "steady", "shock"
BEFORE, DURING, AFTER = "before", "during", "after"
TOLERANCE = 0.1
"""A price has settled once it stays this near to where it ends, relative to the clairvoyant's."""
TRADES = 0.01
"""An agent that serves less than this share of a phase's tokens does not trade."""


def by_step(table: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, schedule, seed and step: the mean loss of its rows, and the step's state."""
    keys = ["arm", "schedule", "seed", "step", "phase"]
    return table.groupby(keys, sort=False).mean(numeric_only=True).drop(columns="row").reset_index()


def verdicts(steps: pd.DataFrame, agents: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and measure, with its interval over seeds and steps.

    Measures: ``settles_shock`` and ``settles_recovery`` (steps); ``extra_during`` and
    ``extra_after`` (loss beyond the clairvoyant's in the same steps); ``hysteresis`` (loss after
    the shock less that of the same steps had there been none); ``stopped`` (agents that trade
    before and not during, each in the phase's last half), ``stayed_out`` (those that traded before
    and do not after, though they do under steady supply), ``bankrupt`` (agents out of business at
    the end, less those under steady supply).
    """
    arms = list(dict.fromkeys(steps["arm"]))
    rows = [
        {"arm": arm, "measure": measure, **found}
        for arm in arms
        for measure, found in (*_of_steps(steps, arm, arms[0]), *_of_agents(agents, arm))
    ]
    return pd.DataFrame(rows)


def settled(distance: np.ndarray) -> int:
    """The first step from which on a price stays within `TOLERANCE` of where it ends.

    Args:
        distance: log of the price over the clairvoyant's, step by step; where it ends is the
            median of the last third.

    Returns:
        A number of steps, at most ``len(distance)``: that many if it never settles.
    """
    if not np.isfinite(distance).all():
        return len(distance)
    end = np.median(distance[-max(len(distance) // 3, 1) :])
    away = np.abs(distance - end) > np.log1p(TOLERANCE)
    return int(np.flatnonzero(away).max() + 1) if away.any() else 0


def _of_steps(
    steps: pd.DataFrame, arm: str, clairvoyant: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    own = steps[(steps["arm"] == arm) & (steps["schedule"] == SHOCK)]
    best = steps[(steps["arm"] == clairvoyant) & (steps["schedule"] == SHOCK)]
    calm = steps[(steps["arm"] == arm) & (steps["schedule"] == STEADY)]
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.log(_grid(own, "price_per_gflop") / _grid(best, "price_per_gflop"))
    for measure, phase in (("settles_shock", DURING), ("settles_recovery", AFTER)):
        waits = [[settled(row)] for row in distance[:, _places(own, phase)]]
        yield measure, bootstrap(waits)._asdict()
    for measure, phase in (("extra_during", DURING), ("extra_after", AFTER)):
        gap = _grid(own, "loss") - _grid(best, "loss")
        yield measure, bootstrap(gap[:, _places(own, phase)])._asdict()
    gap = (_grid(own, "loss") - _grid(calm, "loss"))[:, _places(own, AFTER)]
    yield "hysteresis", bootstrap(gap)._asdict()


def _of_agents(agents: pd.DataFrame, arm: str) -> Iterator[tuple[str, dict[str, Any]]]:
    own = agents[agents["arm"] == arm]
    keys = ["seed", "layer", "agent"]
    share = own.pivot_table(index=keys, columns=["schedule", "phase"], values="served_fraction")
    trades = share >= TRADES
    before, during = trades[SHOCK, BEFORE], trades[SHOCK, DURING]
    stayed = before & ~trades[SHOCK, AFTER] & trades[STEADY, AFTER]
    out = own[own["phase"] == AFTER].pivot_table(index=keys, columns="schedule", values="bankrupt")
    for measure, counted in (
        ("stopped", before & ~during),
        ("stayed_out", stayed),
        ("bankrupt", out[SHOCK].astype(float) - out[STEADY].astype(float)),
    ):
        per_seed = counted.astype(float).groupby(level="seed").sum().to_numpy()[:, None]
        yield measure, bootstrap(per_seed)._asdict()


def _grid(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Seeds by steps."""
    return rows.pivot_table(index="seed", columns="step", values=column, sort=True).to_numpy()


def _places(rows: pd.DataFrame, phase: str) -> np.ndarray:
    phases = rows.drop_duplicates("step").sort_values("step")["phase"]
    return (phases == phase).to_numpy()
