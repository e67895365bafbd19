"""One point of the study: the rows under one market, and under a random mask of the same spend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from agent_economy import Economy
from agent_economy.metrics.reallocation import Sums, layer_sums, row_gini, share_on
from agent_economy.receipt import Receipt
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.utility import Examples
from simulations.model import EconomyModel
from simulations.reallocation.masks import random_mask
from simulations.reallocation.session import Measured, Session

ALL_LAYERS = -1
MARKET, MASK = "market", "mask"
Tables = dict[str, pd.DataFrame]


def run_cell(session: Session, cell: Cell) -> Tables:
    """Run the rows through the cell's market; one that values agents meets a random mask, too.

    Returns:
        ``reallocation``: one row per row of text, layer (-1: all), value and ``setting``, which is
        ``market`` or ``mask``, a random static mask at the market's own measured spend. ``spread``:
        the same without values, entropy and Gini. ``metrics``: utility and FLOPs of every step.
        ``examples`` where the utility is taken of these, and ``mask_examples``.
    """
    market, receipts = _pass(session, session.economy(cell), cell, MARKET)
    if cell["mechanism"] == "uniform" or cell["policy"] == "random":
        return market  # itself a rival
    mask, _ = _pass(session, _masked(session, cell, receipts), cell, MASK)
    if "examples" in mask:
        mask["mask_examples"] = mask.pop("examples")
    return {
        name: pd.concat([tables[name] for tables in (market, mask) if name in tables])
        for name in {**market, **mask}
    }


def dense_examples(session: Session) -> Tables:
    """The dense model's outcome for every row of every seed, as ``dense``."""
    found = [
        _examples(measured.examples, step, first).assign(seed=seed)
        for seed, batches in session.measured.items()
        for step, (measured, first) in enumerate(zip(batches, _firsts(batches), strict=True))
        if measured.examples is not None
    ]
    return {"dense": pd.concat(found, ignore_index=True)} if found else {}


def _masked(session: Session, cell: Cell, receipts: list[Receipt]) -> Economy:
    """An economy whose agents are drawn by lot once and serve every token, at equal spend."""
    seed = seed_for(int(cell["seed"]), MASK, *(str(part) for part in cell.values()))
    economy = session.plain_economy(int(cell["seed"]))
    spend_flops = sum(receipt.spend_flops for receipt in receipts)
    tariffs = [receipt.tariffs for receipt in receipts]
    economy.market.plan_YN = random_mask(tariffs, spend_flops, seed)
    return economy


def _pass(
    session: Session, economy: Economy, cell: Cell, setting: str
) -> tuple[Tables, list[Receipt]]:
    """All of the seed's rows under one allocation."""
    batches = session.measured[int(cell["seed"])]
    asking = ({**measured.batch, "output_attentions": True} for measured in batches)
    model = EconomyModel(economy, asking, seed_for(int(cell["seed"]), "mesa") % 2**31)
    parts: dict[str, list[pd.DataFrame]] = {}
    receipts = []
    for step, (measured, first) in enumerate(zip(batches, _firsts(batches), strict=True)):
        model.step()
        receipts.append(model.receipt)
        views = _views(measured, model, economy.adapter.shape.heads, session.causal)
        utility, reference = session.utility, measured.reference
        loss_B = utility.row_loss(model.output, measured.batch, reference)
        row_B = np.arange(first, first + len(loss_B))
        shares = pd.concat(_shares(measured, views, loss_B, row_B)).assign(setting=setting)
        spreads = pd.concat(_spreads(measured, views, row_B)).assign(setting=setting)
        found = {
            "reallocation": shares,
            "spread": spreads,
            "metrics": pd.DataFrame(_metrics(session, measured, model, step, setting)),
        }
        examples = utility.examples(model.output, measured.batch, reference)
        if examples is not None:
            found["examples"] = _examples(examples, step, first)
        for name, frame in found.items():
            parts.setdefault(name, []).append(frame)
    economy.ledger.check()
    return {name: pd.concat(each, ignore_index=True) for name, each in parts.items()}, receipts


def _firsts(batches: list[Measured]) -> list[int]:
    """The number of each batch's first row."""
    sizes = [len(measured.mask_BL) for measured in batches]
    return [sum(sizes[:place]) for place in range(len(sizes))]


# --- attention ---------------------------------------------------------------------------------


class View(NamedTuple):
    """One layer, or all pooled: dense attention, the same under the gates, and what ran."""

    layer: int
    dense: Sums
    composed: Sums
    scarce: Sums

    def named(self) -> tuple[tuple[str, Sums], ...]:
        """The three, as columns call them."""
        return (("dense", self.dense), ("composed", self.composed), ("scarce", self.scarce))


def _views(measured: Measured, model: EconomyModel, heads: int, causal: bool) -> list[View]:
    gates = [
        model.receipt.allocation_BLN(layer)[..., :heads].float()
        for layer in range(len(measured.sums))
    ]

    def sums(attention: Any) -> list[Sums]:
        return [
            layer_sums(weights, gate, measured.mask_BL, causal=causal)
            for weights, gate in zip(attention, gates, strict=True)
        ]

    parts = (measured.sums, sums(measured.attention), sums(model.output.attentions))
    layers = [View(layer, *each) for layer, each in enumerate(zip(*parts, strict=True))]
    return [View(ALL_LAYERS, *(Sums.pooled(part) for part in parts)), *layers]


def _shares(
    measured: Measured, views: list[View], loss_B: Tensor, row_B: np.ndarray
) -> Iterator[pd.DataFrame]:
    """Share of attention on the top tokens, with what the row lost beside it."""
    for value, top_BL in measured.top_BL.items():
        for view in views:
            columns: dict[str, Any] = {"row": row_B, "layer": view.layer, "value": value}
            # What attention spread evenly over the row's tokens would give.
            columns["even"] = _numbers(top_BL.sum(-1) / measured.ranked_BL.sum(-1))
            for name, sums in view.named():
                share_B = share_on(sums.received_BL, top_BL, measured.ranked_BL)
                columns[f"share_{name}"] = _numbers(share_B)
            columns["loss"] = _numbers(loss_B)
            columns["loss_dense"] = _numbers(measured.loss_B)
            yield pd.DataFrame(columns)


def _spreads(measured: Measured, views: list[View], row_B: np.ndarray) -> Iterator[pd.DataFrame]:
    """Entropy and Gini of attention, and how many heads were open."""
    for view in views:
        columns: dict[str, Any] = {"row": row_B, "layer": view.layer}
        for name, sums in view.named():
            columns[f"entropy_{name}"] = _numbers(sums.entropy)
            columns[f"relative_entropy_{name}"] = _numbers(sums.relative_entropy)
            columns[f"gini_{name}"] = _numbers(row_gini(sums.received_BL, measured.mask_BL))
        columns["open_heads"] = _numbers(view.scarce.open_heads)
        yield pd.DataFrame(columns)


# --- utility -----------------------------------------------------------------------------------


def _metrics(
    session: Session, measured: Measured, model: EconomyModel, step: int, setting: str
) -> Iterator[dict[str, Any]]:
    """Utility and FLOPs of one step; a mask's carry its name."""
    utility, receipt = session.utility, model.receipt
    score = utility.measure(model.output, measured.batch, measured.reference)
    # A correlation or a perplexity is taken of all examples, not averaged over batches.
    name = "utility" if measured.examples is None else "utility_of_batch"
    values = {
        name: (score, utility.unit),
        "flops_fraction": (receipt.flops_fraction, "of dense agent FLOPs"),
    }
    for metric, (value, unit) in values.items():
        named = metric if setting == MARKET else f"{setting}_{metric}"
        yield {"step": step, "metric": named, "value": float(value), "unit": unit}


def _examples(outcome: Examples, step: int, first: int) -> pd.DataFrame:
    """One row an example; its number is its row's."""
    columns = {
        "loss": outcome.loss_B,
        "prediction": outcome.prediction_B,
        "label": outcome.label_B,
        "tokens": outcome.tokens_B,
    }
    number = range(first, first + len(outcome.loss_B))
    numbers = {name: _numbers(values) for name, values in columns.items()}
    return pd.DataFrame({"step": step, "example": number, **numbers})


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().numpy(force=True)
