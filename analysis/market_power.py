"""What a coalition gains and what it costs, and what learners end up bidding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits import ratio_of
from analysis.intervals import bootstrap

BILLED, BY_AGENT = "billed", "by_agent"
_KEYS = ["mechanism", "charge", "coalition"]
_BIDDING = ("learning", "truthful")
_PARTS = 10


def coalitions(table: pd.DataFrame) -> pd.DataFrame:
    """One row per mechanism, charge, size and measure, with intervals over markets.

    The group takes the one factor that gains most over the other half of the markets (1 if none
    gains), so nothing is known in hindsight. Measures: ``gain`` of the group, ``others`` (change
    of the others' rents) and ``welfare`` (change of what is served), all as shares of what the
    group is served when truthful; ``factor``: the mean of those chosen.
    """
    return pd.DataFrame(list(_coalitions(table)))


def _coalitions(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for key, part in table.groupby(_KEYS, sort=False):
        named = dict(zip(_KEYS, key, strict=True))
        part = part.assign(text=part.groupby(["seed", "draw"]).ngroup())
        wide = {
            name: part.pivot_table(index="text", columns="factor", values=name)
            for name in ("group_rent", "others_rent", "welfare")
        }
        scale = part.groupby("text")["group_value"].first()
        gain_TF = wide["group_rent"].sub(wide["group_rent"][1.0], axis=0)
        factor_T = _chosen(gain_TF)
        for measure, name in (
            ("gain", "group_rent"),
            ("others", "others_rent"),
            ("welfare", "welfare"),
        ):
            change = wide[name].sub(wide[name][1.0], axis=0).to_numpy()
            places = [list(gain_TF.columns).index(factor) for factor in factor_T]
            taken = change[np.arange(len(change)), places]
            frame = pd.DataFrame({"text": range(len(taken)), "top": taken, "scale": scale.values})
            value, low, high = ratio_of(frame, "top", "scale")
            yield {**named, "measure": measure, "mean": value, "low": low, "high": high}
        mean = float(np.mean(factor_T))
        yield {**named, "measure": "factor", "mean": mean, "low": np.nan, "high": np.nan}


def _chosen(gain_TF: pd.DataFrame) -> list[float]:
    """For each market the factor that gains most on the other half of the markets."""
    half_T = np.arange(len(gain_TF)) % 2
    best = {half: float(gain_TF[half_T != half].sum().idxmax()) for half in (0, 1)}
    return [best[half] for half in half_T]


def learning(table: pd.DataFrame, *, over: str = "all") -> pd.DataFrame:
    """What learning changes, one row per mechanism, part of the stream and measure.

    Args:
        table: ``power_learning``.
        over: ``all``: the last half of the stream as one part; ``parts``: ten equal parts.

    Returns:
        ``last``: the part's last step. Measures: ``factor``, the share of value that learners bid;
        ``revenue``, their payments over the truthful ones'; ``welfare`` and ``rent``, the change
        of what is served and kept at true values, over what is served to the truthful;
        ``extra_loss`` beyond truthful agents on the same texts. Intervals over seeds and steps.
    """
    steps = table.groupby(["mechanism", "bidding", "seed", "step"], sort=False)
    steps = steps.mean(numeric_only=True).reset_index()
    ends = steps["step"].max() + 1
    part_S = steps["step"] * (2 if over == "all" else _PARTS) // ends
    steps = steps.assign(part=part_S)
    if over == "all":
        steps = steps[steps["part"] == 1]
    rows: list[dict[str, Any]] = []
    for (mechanism, _), part in steps.groupby(["mechanism", "part"], sort=False):
        learners, truthful = (_columns(part[part["bidding"] == name]) for name in _BIDDING)
        scale = truthful["value_credits"].mean()
        rent = learners["value_credits"] - learners["paid_credits"]
        rent_truthful = truthful["value_credits"] - truthful["paid_credits"]
        for measure, values in (
            ("factor", learners["factor"]),
            ("revenue", learners["paid_credits"] / truthful["paid_credits"].mean()),
            ("welfare", (learners["value_credits"] - truthful["value_credits"]) / scale),
            ("rent", (rent - rent_truthful) / scale),
            ("extra_loss", learners["loss"] - truthful["loss"]),
        ):
            named = {"mechanism": mechanism, "last": part["step"].max(), "measure": measure}
            rows.append({**named, **bootstrap(values)._asdict()})
    return pd.DataFrame(rows)


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Seeds by steps of everything measured."""
    return {
        name: rows.pivot_table(index="seed", columns="step", values=name).to_numpy()
        for name in ("loss", "value_credits", "paid_credits", "factor")
    }


def rule(mechanism: str, charge: str) -> str:
    """What a reader calls a rule of payment."""
    if mechanism == "vcg":
        return "VCG, by agent" if charge == BY_AGENT else "VCG, bid by bid"
    return mechanism.replace("_", " ")
