"""Survivors against masks of the same cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.intervals import bootstrap

SURVIVORS = "survivors"
KEYS = ["supply", "income", "entry"]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """One row per economy, structure and measure, with intervals over seeds and texts.

    Measures: ``loss``; ``beyond_survivors``: its loss less the survivors' on the same texts;
    ``overlap`` with them; ``cost_share`` and ``agents``, over seeds.
    """
    rows: list[dict[str, Any]] = []
    for key, part in table.groupby(KEYS, sort=False):
        own = _grid(part[part["structure"] == SURVIVORS], "loss")
        for structure, group in part.groupby("structure", sort=False):
            loss = _grid(group, "loss")
            measures = {"loss": loss, "beyond_survivors": loss - own}
            for name in ("overlap", "cost_share", "agents", "heads"):
                measures[name] = group.groupby("seed")[name].first().to_numpy()[:, None]
            for measure, values in measures.items():
                named = dict(zip(KEYS, key, strict=True))
                found = bootstrap(values)._asdict()
                rows.append({**named, "structure": structure, "measure": measure, **found})
    return pd.DataFrame(rows)


def by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """The share of heads and of blocks of each layer that a structure keeps, mean over seeds."""
    keys = [*KEYS, "structure", "kind", "layer"]
    return table.groupby(keys, sort=False)["member"].mean().rename("kept").reset_index()


def _grid(rows: pd.DataFrame, column: str) -> Any:
    """Seeds by texts."""
    return rows.pivot_table(index="seed", columns="row", values=column, sort=True).to_numpy()
