"""What a study of market power varies, checked before anything heavy is loaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_economy.errors import EconomyError
from simulations.laboratory.config import Budget, LaboratoryConfig, check


class MarketPowerConfig(LaboratoryConfig):
    """Coalitions in single markets; learners in a whole economy. ``steps`` are the learners'.

    Attributes:
        mechanisms: who allocates and charges.
        market: ``layer``: agents of one layer of the model; ``joint``: of all layers together.
        agents: how many take part in a market.
        coalitions: sizes of the group that shades together; 1 is an agent alone.
        tokens: of a text, that every agent bids on.
        factors: by which the group multiplies its bids.
        draws: markets per cell.
        supply: as a share of what serving everybody would take.
        arms: factors that a learner chooses from.
        gamma: share of its draws that explore.
    """

    steps: int = Field(24, ge=1)
    mechanisms: list[str] = Field(["uniform_price", "first_price", "vcg"], min_length=1)
    market: Literal["layer", "joint"] = "layer"
    agents: Annotated[int, Field(ge=2)] = 24
    coalitions: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8, 12], min_length=1)
    tokens: int = Field(40, ge=4)
    factors: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95], min_length=1
    )
    draws: int = Field(24, ge=2)
    supply: Budget = 0.5
    arms: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.25, 0.5, 0.7, 0.85, 1.0], min_length=1
    )
    gamma: float = Field(0.2, gt=0, le=1)


def check_power(config: MarketPowerConfig) -> None:
    """Refuse names that nobody knows, and coalitions of everybody.

    Raises:
        EconomyError: one line that says what to change.
    """
    lists = ("mechanisms", "coalitions", "factors", "arms")
    check(config, *lists, mechanisms=list(config.mechanisms))
    if max(config.coalitions) >= config.agents:
        raise EconomyError(
            f"coalitions: {max(config.coalitions)} of {config.agents} agents leaves nobody to "
            "compete with; lower it"
        )
    if config.supply == 1:
        raise EconomyError("supply = 1: nothing is scarce, so nobody has power; lower it")
