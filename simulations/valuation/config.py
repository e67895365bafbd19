"""What a valuation study varies, checked before anything heavy is loaded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.policies import POLICIES
from agent_economy.runs.config import StrictModel

Scarce = Annotated[float, Field(gt=0, lt=1)]


class ValuationConfig(StrictModel):
    """Bids and prices of a frozen model against what it really loses.

    Attributes:
        model: alias, folder or hub id; loss is infidelity to the dense model.
        text: where texts come from.
        rows: rows measured under each seed; no policy was calibrated on them.
        batch_size: rows per forward.
        max_tokens: longest row.
        calibration_texts: texts that policies are calibrated on.
        probes: draws of the calibration loss per batch.
        ablations: random allocations per calibration batch that learned policies are fitted to.
        warm_up: forwards over calibration text before a mechanism that learns is measured.
        block_size: FFN neurons per block agent.
        mechanism: what makes allocations out of bids, per sequence.
        policies: whose bids are judged.
        budgets: supplies at which allocations are made, as fractions of dense agent FLOPs.
        price_budgets: supplies between which true loss is set against the shadow price; full
            supply is always the first; none leaves this study out.
        draws: random allocations of each family at each budget.
        unions: sizes of the sets of agents whose joint loss is set against the sum of single ones;
            none leaves this study out.
        seeds: each draws its own texts, calibration and allocations.
    """

    model: str = "minilm"
    text: str = "python-docs"
    rows: int = Field(24, ge=2)
    batch_size: int = Field(12, ge=1)
    max_tokens: int = Field(48, ge=4)
    calibration_texts: int = Field(36, ge=4)
    probes: int = Field(2, ge=1)
    ablations: int = Field(32, ge=1)
    warm_up: int = Field(4, ge=0)
    block_size: int = Field(128, ge=1)
    mechanism: str = "uniform_price"
    policies: list[str] = Field(["taylor"], min_length=1)
    budgets: list[Scarce] = Field([0.95, 0.9, 0.8, 0.6, 0.4, 0.2], min_length=1)
    price_budgets: list[Scarce] = Field([0.9, 0.7, 0.5, 0.3])
    draws: int = Field(1, ge=1)
    unions: list[Annotated[int, Field(ge=2)]] = Field([2, 4, 8, 16, 32])
    seeds: list[int] = Field([0, 1], min_length=1)


def check(config: ValuationConfig) -> None:
    """Refuse unknown names and values listed twice.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    build_mechanism(MechanismConfig(name=config.mechanism))
    for policy in config.policies:
        POLICIES.get(policy)
    for name in ("policies", "budgets", "price_budgets", "unions", "seeds"):
        values = getattr(config, name)
        if len(set(values)) < len(values):
            raise EconomyError(f"{name}: {values} repeats a value; remove it")
