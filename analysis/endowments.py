"""What unequal wallets cost: losses against equal ones, and against the Gini coefficient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.intervals import bootstrap

EQUAL, ALL = "equal", "all"
REVENUE = "revenue"


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per endowment, income and measure, with its interval over seeds and steps.

    Measures: ``loss``; ``extra_loss`` beyond equal wallets under the same income on the same
    texts; ``gini_start`` and ``gini_end`` of wallets before the first and the last step;
    ``efficiency``: declared welfare over the linear program's optimum. Of all endowments
    together (``all``): ``slope`` of loss on ``gini_start`` by least squares, per 0.1 of Gini;
    ``beyond_revenue``, the loss less that under revenue paid back in equal parts.
    """
    steps = table.groupby(["endowment", "income", "seed", "step"], sort=False)
    steps = steps.mean(numeric_only=True).reset_index()
    rows: list[dict[str, Any]] = []
    for (endowment, income), part in steps.groupby(["endowment", "income"], sort=False):
        same = steps[(steps["endowment"] == EQUAL) & (steps["income"] == income)]
        loss = _grid(part, "loss")
        measures = {
            "loss": loss,
            "efficiency": _grid(part, "efficiency"),
            "gini_start": _grid(part, "gini_wealth")[:, :1],
            "gini_end": _grid(part, "gini_wealth")[:, -1:],
        }
        if not same.empty:
            measures["extra_loss"] = loss - _grid(same, "loss")
        for measure, values in measures.items():
            found = bootstrap(values)._asdict()
            rows.append({"endowment": endowment, "income": income, "measure": measure, **found})
    rows.extend(_together(steps))
    return pd.DataFrame(rows)


def _together(steps: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What all endowments say together, income by income."""
    start = steps[steps["step"] == 0].groupby(["income", "endowment", "seed"])["gini_wealth"].mean()
    paid_back = steps[steps["income"] == REVENUE]
    for income, part in steps.groupby("income", sort=False):
        names = list(dict.fromkeys(part["endowment"]))
        loss_EST = np.stack([_grid(part[part["endowment"] == name], "loss") for name in names])
        gini_ES = start[income].unstack().loc[names].to_numpy()
        away_ES = gini_ES - gini_ES.mean(0)
        spread_S = (away_ES**2).sum(0)
        if (spread_S > 0).all():
            slope_ST = np.einsum("es,est->st", away_ES, loss_EST) / spread_S[:, None] / 10
            yield _said(income, "slope", slope_ST)
        if income != REVENUE and set(names) <= set(paid_back["endowment"]):
            base = [_grid(paid_back[paid_back["endowment"] == name], "loss") for name in names]
            yield _said(income, "beyond_revenue", (loss_EST - np.stack(base)).mean(0))


def _said(income: Any, measure: str, values_ST: Any) -> dict[str, Any]:
    found = bootstrap(values_ST)._asdict()
    return {"endowment": ALL, "income": income, "measure": measure, **found}


def _grid(rows: pd.DataFrame, column: str) -> Any:
    """Seeds by steps."""
    return rows.pivot_table(index="seed", columns="step", values=column, sort=True).to_numpy()
