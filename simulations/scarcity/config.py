"""What a scarcity study varies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from agent_economy.config import Named, WalletConfig
from agent_economy.market import Timing
from agent_economy.runs.config import StrictModel

Budget = Annotated[float, Field(gt=0, le=1)]


STATIC_MASK = "static_mask"
"""Stands where a mechanism's name would, in the cells of rivals."""


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


#: a name alone, or a table with ``name`` and ``options``
RivalConfig = Annotated[Named, BeforeValidator(_named)]


class MarketConfig(StrictModel):
    """One mechanism and the policies to run it with.

    Attributes:
        mechanism: name.
        scope: where one budget is cleared.
        timing: ``spot`` clears layer by layer; ``forward`` and ``trace`` make one market of all
            layers, which may move FLOPs between them as a static mask may. ``forward`` bids on what
            enters the first layer; ``trace`` knows the dense pass, whose FLOPs nobody pays.
        policies: names of bid policies; the first leads in the report.
    """

    mechanism: str
    scope: Literal["token", "sequence", "batch"] = "sequence"
    timing: Timing = "spot"
    policies: list[str] = Field(["taylor"], min_length=1)


class ScarcityConfig(StrictModel):
    """A frozen model under falling supply.

    Attributes:
        model: alias, folder or hub id.
        task: ``auto`` measures fidelity to the dense model; ``wikitext2`` a decoder's perplexity
            on WikiText-2 validation text; else a labelled task that the model has a head for.
            A seed measures its own examples: no two seeds share one.
        text: where texts come from when the task is ``auto``.
        steps: batches per cell.
        batch_size: rows per batch.
        max_tokens: longest row.
        calibration_texts: texts that policies are calibrated on; never measured on.
        selection_texts: further texts, never measured on either, by whose loss the best static
            mask is chosen.
        probes: draws of the calibration loss per batch.
        warm_up: forwards over calibration text before the first step of a mechanism that learns;
            all but what it learned is forgotten.
        block_size: FFN neurons per block agent.
        budgets: supply as fractions of dense agent FLOPs.
        seeds: each draws its own texts, calibration and lots.
        markets: what to compare.
        rivals: static masks to compare them with; see ``agent_economy.rivals``.
        detail: whether attention, the linear program's optimum and the showcase are recorded;
            without them a large study takes a fraction of the time.
        wallet: money.
        showcase: a sentence whose prices, gates and attention are kept whole.
        showcase_budget: at which supply.
    """

    model: str = "minilm"
    task: Literal["auto", "wikitext2", "cola", "stsb", "sst2", "mnli"] = "auto"
    text: str = "python-docs"
    steps: int = Field(4, ge=1)
    batch_size: int = Field(4, ge=1)
    max_tokens: int = Field(48, ge=4)
    calibration_texts: int = Field(32, ge=4)
    selection_texts: int = Field(16, ge=1)
    probes: int = Field(2, ge=1)
    warm_up: int = Field(3, ge=0)
    block_size: int = Field(128, ge=1)
    budgets: list[Budget] = Field([1.0, 0.8, 0.6, 0.4, 0.2, 0.1], min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    markets: list[MarketConfig] = Field(
        [MarketConfig(mechanism="uniform_price"), MarketConfig(mechanism="uniform")], min_length=1
    )
    rivals: list[RivalConfig] = Field(
        [Named(name=name) for name in ("fisher_mask", "taylor_mask", "random_mask")]
    )
    detail: bool = True
    wallet: WalletConfig = WalletConfig(
        endowment_credits=2_000.0, income=Named(name="contribution")
    )
    showcase: str = "The committee approved the budget after a long debate about its costs."
    showcase_budget: Budget = 0.4
