"""Numbers of the networks that permits make: means with intervals over seeds and windows."""

from __future__ import annotations

import pandas as pd

from analysis.intervals import bootstrap

LONGER = "cycles of 4 and more"


def by_rule(network: pd.DataFrame, value: str = "value") -> pd.DataFrame:
    """One row per purse, rule and measure; what a window lacks counts as nothing.

    Args:
        network: the ``permit_network`` table.
        value: ``value`` of each measure, or ``z`` of each triad.
    """
    keys = ["purse", "rule"]
    rows = []
    for key, part in network.groupby(keys, sort=False):
        wide = part.pivot_table(
            index=["seed", "window"], columns="measure", values=value, sort=False
        )
        wide = _grouped(wide.fillna(0.0)) if value == "value" else wide
        for measure in wide:
            grid = wide[measure].unstack("window").to_numpy()
            found = bootstrap(grid)._asdict()
            rows.append({**dict(zip(keys, key, strict=True)), "measure": measure, **found})
    return pd.DataFrame(rows)


def _grouped(wide: pd.DataFrame) -> pd.DataFrame:
    """Cycles of four and more together."""
    long = [
        name
        for name in wide
        if str(name).startswith("cycles of ") and int(str(name).rsplit(" ", 1)[1]) > 3
    ]
    return wide.drop(columns=long).assign(**{LONGER: wide[long].sum(axis=1)})
