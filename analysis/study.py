"""A run as the figures see it."""

from __future__ import annotations

import pandas as pd

from agent_economy.runs.reader import Run


class Study(Run):
    """A run whose scopes say over what a budget is cleared, and when.

    Markets of one scope may differ in timing, which has a column of its own in the tables. Figures
    tell scopes apart, so a scope that is not cleared on the spot bears its timing in its name:
    "sequence, forward".
    """

    def table(self, name: str) -> pd.DataFrame:
        """See `Run.table`."""
        table = super().table(name)
        if "timing" not in table or "scope" not in table:
            return table
        timed = ~table["timing"].isin(["", "spot"])
        scope = table["scope"].where(~timed, table["scope"] + ", " + table["timing"])
        self._tables[name] = table.assign(scope=scope).drop(columns="timing")
        return self._tables[name]
