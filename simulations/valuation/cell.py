"""One policy's whole allocations: what its bids predict that they cost, and what they cost."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.valuation.session import Dense, Gates, Session
from simulations.valuation.shadow_price import price_tables
from simulations.valuation.unions import union_tables

Tables = dict[str, pd.DataFrame]
MARKET = "market"


def run_cell(session: Session, cell: Cell) -> Tables:
    """The cell's study under its seed."""
    seed, policy = int(cell["seed"]), str(cell["policy"])
    if cell["study"] == "unions":
        return union_tables(session, seed)
    if cell["study"] == "shadow_price":
        return price_tables(session, policy, seed)
    return allocation_tables(session, policy, seed)


def allocation_tables(session: Session, name: str, seed: int) -> Tables:
    """Predicted and measured change of loss for every row and allocation.

    Returns:
        ``allocations_measured``: one row per row of text, family and budget, as valued by the
        policy; ``allocations_judged``: what every other policy of the study makes of this one's
        market allocations; ``metrics``: means of the first.
    """
    policy = session.policy(name, seed)
    judges = {each: session.policy(each, seed) for each in session.config.policies}
    frames, judged = [], []
    for dense, drawn in zip(session.dense(seed), session.drawn(seed), strict=True):
        bids = session.bids(policy, dense)
        for each in drawn:
            frames.append(
                _frame(
                    dense,
                    each.family,
                    each.budget_fraction,
                    each.gates,
                    predicted=closed_value_B(bids, each.gates, dense.mask_BL),
                    measured=each.change_B,
                    parts=each.parts_B,
                )
            )
    for budget in session.config.budgets:
        economy = session.economy(budget, seed)
        economy.set_policy(policy)
        session.warm_up(economy, seed)
        for dense in session.dense(seed):
            bids = session.bids(policy, dense, economy.market.step)
            with economy.trying(), torch.no_grad():
                receipt = economy(**dense.batch).receipt
                layers = range(len(dense.hidden))
                gates = [receipt.allocation_BLN(layer).bool() for layer in layers]
                market = economy.market
                declared = [market.bids.get(layer, bids[layer]) for layer in layers]
            measured_B = session.change_B(dense, gates)
            for judge, other in judges.items():
                value_B = closed_value_B(session.bids(other, dense), gates, dense.mask_BL)
                judged.append(_judgement(dense, judge, budget, value_B, measured_B))
            split = seed_for(seed, "halves", str(budget), dense.first_row)
            frames.append(
                _frame(
                    dense,
                    MARKET,
                    budget,
                    gates,
                    predicted=closed_value_B(bids, gates, dense.mask_BL),
                    measured=measured_B,
                    parts=session.parts_B(dense, gates, split),
                    declared=closed_value_B(declared, gates, dense.mask_BL),
                )
            )
    measured = pd.concat(frames, ignore_index=True)
    return {
        "allocations_measured": measured,
        "allocations_judged": pd.concat(judged, ignore_index=True),
        "metrics": _metrics(measured, session.unit),
    }


def closed_value_B(bids: list[Tensor], gates: Gates, mask_BL: Tensor) -> Float64[Tensor, "B"]:
    """Credits bid for the real (token, agent) pairs that are closed."""
    total_B = bids[0].new_zeros(len(mask_BL), dtype=torch.float64)
    for bid_BLN, gate_BLN in zip(bids, gates, strict=True):
        closed_BLN = ~gate_BLN & mask_BL[..., None]
        total_B += torch.where(closed_BLN, bid_BLN, 0.0).double().sum((1, 2))
    return total_B


def spent_B(tariff: Tariff, gate_BLN: Tensor) -> Tensor:
    """FLOPs of a layer's agents on each row, set-up fees included."""
    gate_BNL = gate_BLN.transpose(1, 2)
    units = tariff.setup_flops_U.shape[0]
    used_BU = gate_BNL[:, : tariff.fee_agents].any(-1).unflatten(1, (units, tariff.group)).any(-1)
    own_B = (gate_BNL * tariff.token_flops_BNL).sum((1, 2))
    return own_B + (used_BU * tariff.setup_flops_BU).sum(1)


def _frame(
    dense: Dense,
    family: str,
    budget: float,
    gates: Gates,
    *,
    predicted: Tensor,
    measured: Tensor,
    parts: Tensor,
    declared: Tensor | None = None,
) -> pd.DataFrame:
    tokens_B = dense.mask_BL.sum(1)
    pairs_B = tokens_B * gates[0].shape[-1] * len(gates)
    served_B = sum((gate & dense.mask_BL[..., None]).sum((1, 2)) for gate in gates)
    flops_B = sum(spent_B(dense.tariff, gate & dense.mask_BL[..., None]) for gate in gates)
    dense_B = dense.tariff.dense_flops_BL.sum(1) * len(gates)
    columns: dict[str, Any] = {
        "row": torch.arange(len(tokens_B)) + dense.first_row,
        "tokens": tokens_B,
        "flops_fraction": flops_B.double() / dense_B,
        "closed_share": 1 - served_B.double() / pairs_B,
        "predicted_credits": predicted,
        "declared_credits": torch.full_like(predicted, torch.nan) if declared is None else declared,
        "measured_change": measured,
        "parts_change": parts,
    }
    frame = pd.DataFrame({key: value.numpy(force=True) for key, value in columns.items()})
    frame.insert(0, "family", family)
    frame.insert(1, "budget_fraction", budget)
    return frame


def _judgement(
    dense: Dense, judge: str, budget: float, value_B: Tensor, measured_B: Tensor
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "judge": judge,
            "budget_fraction": budget,
            "row": (torch.arange(len(value_B)) + dense.first_row).numpy(),
            "predicted_credits": value_B.numpy(force=True),
            "measured_change": measured_B.numpy(force=True),
        }
    )


def _metrics(measured: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Means over rows, tidy."""
    units = {
        "flops_fraction": "of dense agent FLOPs",
        "closed_share": "of (token, agent) pairs",
        "predicted_credits": "credits",
        "measured_change": unit,
        "parts_change": unit,
    }
    means = measured.groupby(["family", "budget_fraction"], sort=False)[list(units)].mean()
    tidy = means.reset_index().melt(["family", "budget_fraction"], var_name="metric")
    return tidy.assign(unit=tidy["metric"].map(units), step=0)
