"""What a reallocation study varies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_economy.config import Named, WalletConfig
from agent_economy.metrics.token_value import NAMES
from agent_economy.runs.config import StrictModel

Budget = Annotated[float, Field(gt=0, le=1)]


class MarketConfig(StrictModel):
    """One mechanism, clearing layer by layer, and the policies to run it with.

    Attributes:
        mechanism: name.
        scope: where one budget is cleared.
        policies: names of bid policies; the first leads in the report.
    """

    mechanism: str
    scope: Literal["token", "sequence", "batch"] = "sequence"
    policies: list[str] = Field(["taylor"], min_length=1)


class ReallocationConfig(StrictModel):
    """Attention on valuable tokens under scarcity.

    A seed measures its own rows (no two seeds share one) and draws its own calibration texts, lots,
    random bids and random masks.

    Attributes:
        model: alias, folder or hub id.
        task: ``auto`` measures an encoder's fidelity to the dense model, a decoder's perplexity;
            ``wikitext2`` perplexity on WikiText-2 validation text; else a labelled task that the
            model has a head for.
        text: where texts come from when the task is ``auto``.
        rows: texts measured under each seed.
        batch_size: of these, per step.
        max_tokens: longest row; what is longer is cut off.
        values: definitions of a token's value, see ``metrics.token_value``.
        top_fraction: the share of a row's tokens that counts as valuable.
        reference_texts: texts that rarity is counted on; never measured on.
        calibration_texts: texts that policies are calibrated on; never measured on.
        probes: draws of the calibration loss per batch.
        warm_up: forwards over calibration text before the first step of a mechanism that learns.
        block_size: FFN neurons per block agent.
        budgets: supply as fractions of dense agent FLOPs.
        seeds: see above.
        markets: what to compare. List ``random`` among a market's policies to see what the same
            mechanism does with bids that know nothing.
        wallet: money.
    """

    model: str = "minilm"
    task: Literal["auto", "wikitext2", "cola", "stsb", "sst2", "mnli"] = "auto"
    text: str = "python-docs"
    rows: int = Field(32, ge=1)
    batch_size: int = Field(16, ge=1)
    max_tokens: int = Field(48, ge=4)
    values: list[str] = Field(list(NAMES), min_length=1)
    top_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    reference_texts: int = Field(2000, ge=1)
    calibration_texts: int = Field(32, ge=4)
    probes: int = Field(2, ge=1)
    warm_up: int = Field(3, ge=0)
    block_size: int = Field(128, ge=1)
    budgets: list[Budget] = Field([0.8, 0.6, 0.4], min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    markets: list[MarketConfig] = Field(
        [
            MarketConfig(mechanism="uniform_price", policies=["taylor", "random"]),
            MarketConfig(mechanism="uniform"),
        ],
        min_length=1,
    )
    wallet: WalletConfig = WalletConfig(
        endowment_credits=10_000.0, income=Named(name="contribution")
    )
