"""What a scarcity study varies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_economy.config import Named, WalletConfig
from agent_economy.runs.config import StrictModel

Budget = Annotated[float, Field(gt=0, le=1)]


class MarketConfig(StrictModel):
    """One mechanism and the policies to run it with.

    Attributes:
        mechanism: name.
        scope: where one budget is cleared.
        policies: names of bid policies; the first leads in the report.
    """

    mechanism: str
    scope: Literal["token", "sequence", "batch"] = "sequence"
    policies: list[str] = Field(["taylor"], min_length=1)


class ScarcityConfig(StrictModel):
    """A frozen model under falling supply.

    Attributes:
        model: alias, folder or hub id.
        task: ``auto`` measures fidelity to the dense model; else a labelled task that the model
            has a head for.
        text: where texts come from when the task is ``auto``.
        steps: batches per cell.
        batch_size: rows per batch.
        max_tokens: longest row.
        calibration_texts: texts that policies are calibrated on; never measured on.
        probes: draws of the calibration loss per batch.
        warm_up: forwards over calibration text before the first step of a mechanism that learns;
            all but what it learned is forgotten.
        block_size: FFN neurons per block agent.
        budgets: supply as fractions of dense agent FLOPs.
        seeds: each draws its own texts, calibration and lots.
        markets: what to compare.
        wallet: money.
        showcase: a sentence whose prices, gates and attention are kept whole.
        showcase_budget: at which supply.
    """

    model: str = "minilm"
    task: Literal["auto", "cola", "stsb", "sst2", "mnli"] = "auto"
    text: str = "python-docs"
    steps: int = Field(4, ge=1)
    batch_size: int = Field(4, ge=1)
    max_tokens: int = Field(48, ge=4)
    calibration_texts: int = Field(32, ge=4)
    probes: int = Field(2, ge=1)
    warm_up: int = Field(3, ge=0)
    block_size: int = Field(128, ge=1)
    budgets: list[Budget] = Field([1.0, 0.8, 0.6, 0.4, 0.2, 0.1], min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    markets: list[MarketConfig] = Field(
        [MarketConfig(mechanism="uniform_price"), MarketConfig(mechanism="uniform")], min_length=1
    )
    wallet: WalletConfig = WalletConfig(
        endowment_credits=2_000.0, income=Named(name="contribution")
    )
    showcase: str = "The committee approved the budget after a long debate about its costs."
    showcase_budget: Budget = 0.4
