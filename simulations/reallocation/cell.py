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
from simulations.model import EconomyModel
from simulations.reallocation.masks import random_mask
from simulations.reallocation.session import Measured, Session

ALL_LAYERS = -1


class Pass(NamedTuple):
    """All rows under one allocation.

    Attributes:
        reallocation: tidy rows of shares.
        spread: tidy rows of entropy and Gini.
        rows: each row's loss and prediction.
        receipts: of every batch.
    """

    reallocation: pd.DataFrame
    spread: pd.DataFrame
    rows: pd.DataFrame
    receipts: list[Receipt]

    @property
    def spend_flops(self) -> int:
        """Agent FLOPs executed, the market's own included."""
        return sum(receipt.spend_flops for receipt in self.receipts)


def run_cell(session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
    """Run the rows through the cell's market; a market that values agents gets a random rival.

    Returns:
        ``reallocation``, ``spread`` and ``rows``, one row per row of text (and layer, and value)
        and ``setting``: ``market``, or ``mask`` for a random static mask at the market's measured
        spend. ``metrics``: utility and FLOPs of all rows together, step 0.
    """
    economy = session.economy(cell)
    passes = {"market": _pass(session, economy, cell)}
    if cell["mechanism"] != "uniform" and cell["policy"] != "random":
        passes["mask"] = _pass(session, _masked(session, cell, passes["market"]), cell)
    tables = {
        name: pd.concat(
            [getattr(each, name).assign(setting=setting) for setting, each in passes.items()],
            ignore_index=True,
        )
        for name in ("reallocation", "spread", "rows")
    }
    return tables | {"metrics": pd.DataFrame(_metrics(session, passes))}


def _masked(session: Session, cell: Cell, market: Pass) -> Economy:
    """An economy whose agents are drawn by lot once and serve every token."""
    seed = seed_for(int(cell["seed"]), "mask", *(str(part) for part in cell.values()))
    economy = session.plain_economy(int(cell["seed"]))
    layers = economy.population.layers
    tariffs = [receipt.tariff for receipt in market.receipts]
    economy.market.plan_YN = random_mask(tariffs, layers, market.spend_flops, seed)
    return economy


def _pass(session: Session, economy: Economy, cell: Cell) -> Pass:
    model = EconomyModel(economy, _asking(session), seed_for(int(cell["seed"]), "mesa") % 2**31)
    shares, spreads, rows, receipts = [], [], [], []
    start = 0
    for measured in session.measured:
        model.step()
        receipts.append(model.receipt)
        number = np.arange(start, start + len(measured.mask_BL))
        start += len(number)
        views = _views(measured, model, economy.adapter.shape.heads, session.causal)
        outcome = _outcome(session, measured, model.output)
        shares += [part.assign(row=number) for part in _shares(measured, views)]
        spreads += [part.assign(row=number) for part in _spreads(measured, views)]
        rows.append(outcome.assign(row=number))
    economy.ledger.check()
    frames = (pd.concat(parts, ignore_index=True) for parts in (shares, spreads, rows))
    return Pass(*(_row_first(frame) for frame in frames), receipts)


def _asking(session: Session) -> Iterator[dict[str, Any]]:
    """The rows, asking for attention."""
    return ({**measured.batch, "output_attentions": True} for measured in session.measured)


class View(NamedTuple):
    """One layer, or all pooled: dense attention, the same under the gates, and what ran."""

    layer: int
    dense: Sums
    composed: Sums
    scarce: Sums


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


def _shares(measured: Measured, views: list[View]) -> Iterator[pd.DataFrame]:
    """Share of attention on the top tokens, dense, composed and scarce."""
    for value, top_BL in measured.top_BL.items():
        even_B = top_BL.sum(-1) / measured.ranked_BL.sum(-1)
        for view in views:
            found = {
                f"share_{name}": _numbers(share_on(sums.received_BL, top_BL, measured.ranked_BL))
                for name, sums in _named(view)
            }
            yield pd.DataFrame(
                {"layer": view.layer, "value": value, "even": _numbers(even_B), **found}
            )


def _spreads(measured: Measured, views: list[View]) -> Iterator[pd.DataFrame]:
    """Entropy and Gini of attention, dense, composed and scarce."""
    for view in views:
        found: dict[str, Any] = {"layer": view.layer}
        for name, sums in _named(view):
            found[f"entropy_{name}"] = _numbers(sums.entropy)
            found[f"relative_entropy_{name}"] = _numbers(sums.relative_entropy)
            found[f"gini_{name}"] = _numbers(row_gini(sums.received_BL, measured.mask_BL))
        yield pd.DataFrame({**found, "open_heads": _numbers(view.scarce.open_heads)})


def _outcome(session: Session, measured: Measured, output: Any) -> pd.DataFrame:
    """Each row's loss, and what a labelled task's head says."""
    batch, reference = measured.batch, measured.reference
    rows = len(measured.mask_BL)
    loss_B = session.utility.row_loss(output, batch, reference)
    prediction_B = session.predictions(output)
    labels_B = batch.get("labels") if prediction_B is not None else None
    nothing = np.full(rows, np.nan)
    return pd.DataFrame(
        {
            "tokens": _numbers(measured.mask_BL.sum(-1)).astype("int64"),
            "ranked": _numbers(measured.ranked_BL.sum(-1)).astype("int64"),
            "loss": _numbers(loss_B),
            "loss_dense": _numbers(measured.loss_B),
            "prediction": nothing if prediction_B is None else _numbers(prediction_B),
            "label": nothing if labels_B is None else _numbers(labels_B),
            "prediction_dense": nothing
            if prediction_B is None
            else _numbers(measured.prediction_B),
        }
    )


def _metrics(session: Session, passes: dict[str, Pass]) -> Iterator[dict[str, Any]]:
    """Utility and FLOPs of all rows together; the mask's and the dense model's beside."""
    unit = session.utility.unit
    rows = passes["market"].rows

    def utility(frame: pd.DataFrame, which: str = "") -> float:
        names = (f"loss{which}", f"prediction{which}", "label")
        return session.score(*(frame[name].to_numpy() for name in names))

    dense_flops = sum(receipt.dense_flops for receipt in passes["market"].receipts)
    values = {"utility_dense": (utility(rows, "_dense"), unit)}
    for setting, each in passes.items():
        name = "" if setting == "market" else f"_{setting}"
        values[f"utility{name}"] = utility(each.rows), unit
        values[f"loss{name}"] = each.rows["loss"].mean(), "loss per row"
        values[f"flops_fraction{name}"] = (each.spend_flops / dense_flops, "of dense agent FLOPs")
    values["loss_dense"] = rows["loss_dense"].mean(), "loss per row"
    for name, (value, kind) in values.items():
        yield {"step": 0, "metric": name, "value": float(value), "unit": kind}


def _named(view: View) -> tuple[tuple[str, Sums], ...]:
    return (("dense", view.dense), ("composed", view.composed), ("scarce", view.scarce))


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().numpy(force=True)


def _row_first(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["row", *(name for name in frame.columns if name != "row")]]
