"""A scenario that counts: deterministic, quick, and able to fail on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from agent_economy.runs.config import StrictModel
from agent_economy.runs.scenario import Cell, Log, Scenario
from agent_economy.runs.seeds import seed_for


class Market(StrictModel):
    """A nested table."""

    mechanism: str = "greedy"
    rounds: int = 3


class Config(StrictModel):
    """What the counting scenario takes."""

    seed: int = 0
    budgets: tuple[float, ...] = (1.0, 0.5, 0.25)
    repeats: int = Field(2, ge=1)
    market: Market = Market()


@dataclass
class Session:
    """Counts what ran and whether it was closed."""

    config: Config
    ran: list[Cell] = field(default_factory=list)
    closed: bool = False

    def data_hashes(self) -> dict[str, str]:
        """One pretended file."""
        return {"numbers": "abc"}

    def close(self) -> None:
        """Remember that the runner closed the session."""
        self.closed = True


class Counting(Scenario):
    """Draws numbers from the seed tree."""

    name = "counting"
    summary = "numbers from the seed tree"

    def __init__(self, before_cell: Callable[[int], None] = lambda index: None) -> None:
        self.before_cell = before_cell
        self.session: Session | None = None

    def config_type(self) -> type[StrictModel]:
        return Config

    def default_toml(self) -> Path:
        return Path(__file__).with_name("counting.toml")

    def cells(self, config: Config) -> list[Cell]:
        return [
            {"mechanism": "greedy", "budget_fraction": budget, "seed": seed}
            for budget in config.budgets
            for seed in range(config.repeats)
        ]

    def open(self, config: Config, log: Log) -> Session:
        log("opened", texts=3)
        self.session = Session(config)
        return self.session

    def run_cell(self, session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
        self.before_cell(len(session.ran))
        session.ran.append(cell)
        seed = seed_for(session.config.seed, "cell", cell["seed"], str(cell["budget_fraction"]))
        draws = np.random.default_rng(seed).normal(size=50)
        layers: list[Any] = list(range(50)) if cell["seed"] else [x + 0.5 for x in range(50)]
        return {
            "metrics": pd.DataFrame({"metric": ["mean"], "value": [draws.mean()]}),
            "prices": pd.DataFrame({"layer": layers, "price_per_gflop": draws}),
            "timings": pd.DataFrame({"clock": ["now"], "ms": [np.random.rand()]}),
        }

    def finish(self, session: Session) -> dict[str, pd.DataFrame]:
        return {"agents": pd.DataFrame({"agent": pd.Categorical(["head", "block", "head"])})}
