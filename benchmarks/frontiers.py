"""``agent-economy bench frontier``: the STS-B frontier of this machine, trained or taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

CONFIG = Path(__file__).parent / "frontier" / "stsb.toml"
OUT = Path("runs/frontier-stsb")
_COLUMNS = ["rival", "budget_fraction", "verdict", "difference", "low", "high", "seeds", "n"]


def run(config: Path = CONFIG, out: Path = OUT) -> list[dict[str, Any]]:
    """Train what is left of the frontier and return its verdicts on the development part.

    Days on two cores, about two hours on one GPU; a killed run goes on where it was.
    """
    from agent_economy.training.frontier import train_frontier

    train_frontier(config, [], out, 1, resume=True)
    table = pd.read_parquet(out / "verdicts.parquet")
    rows = table.loc[table["part"] == "development", _COLUMNS]
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows.itertuples(index=False)]
