"""What unequal wallets cost: losses against equal ones, and against the Gini coefficient."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.intervals import bootstrap

EQUAL = "equal"


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per endowment, income and measure, with its interval over seeds and steps.

    Measures: ``loss``; ``extra_loss`` beyond equal wallets under the same income on the same
    texts; ``gini_start`` and ``gini_end`` of wallets before the first and the last step;
    ``efficiency``: declared welfare over the linear program's optimum.
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
    return pd.DataFrame(rows)


def _grid(rows: pd.DataFrame, column: str) -> Any:
    """Seeds by steps."""
    return rows.pivot_table(index="seed", columns="step", values=column, sort=True).to_numpy()
