"""Shadow prices against what compute is really worth to the model at the margin.

The market's price is the dual of the compute constraint: the declared welfare of one more GFLOP.
First that is checked as it stands, by a finite difference of optimal declared welfare. Then true
loss is put in the place of declared welfare: supply falls from one budget to the next, in one layer
with all others full or in all layers at once, and the rise of loss per GFLOP saved is set against
the mean price of the two budgets.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.optimum import Optimum, optimum
from agent_economy.mechanisms.uniform_price import UniformPrice
from simulations.valuation.session import Dense, Gates, Session

ALL_LAYERS = -1
#: the finite difference is taken over so small a share of dense FLOPs that it seldom meets a bid
_STEP = 1e-5
_TOLERANCE = 0.01


class Cleared(NamedTuple):
    """One layer at one budget.

    Attributes:
        gate_BLN: who serves.
        spent_B: FLOPs of each row.
        price_B: shadow price of each row, credits per GFLOP.
    """

    gate_BLN: Tensor
    spent_B: Int[Tensor, "B"]
    price_B: Float64[Tensor, "B"]


def price_tables(session: Session, name: str, seed: int) -> dict[str, pd.DataFrame]:
    """Both checks of one policy's prices.

    Returns:
        ``shadow_prices``: one row per row of text, layer (-1: all of them) and pair of budgets;
        ``price_checks``: one row per layer and budget.

    Raises:
        EconomyError: a price is not the slope of optimal welfare.
    """
    policy = session.policy(name, seed)
    budgets = [1.0, *sorted(session.config.price_budgets, reverse=True)]
    losses, checks = [], []
    for dense in session.dense(seed):
        bids = session.bids(policy, dense)
        cleared = [[clear(bid_BLN, dense.tariff, budget) for bid_BLN in bids] for budget in budgets]
        checks += [
            {"row": dense.first_row, "layer": layer, "budget_fraction": budget}
            | slope_of_welfare(bid_BLN, dense.tariff, budget)
            for budget in budgets[1:]
            for layer, bid_BLN in enumerate(bids)
        ]
        layers = range(len(bids))
        for layer in (*layers, ALL_LAYERS):
            scarce = [layer] if layer != ALL_LAYERS else list(layers)
            at = [
                (_only(each, scarce), session.change_B(dense, _gates(dense, each, scarce)))
                for each in cleared
            ]
            losses.append(_between(dense, layer, budgets, at))
    checked = pd.DataFrame(checks)
    _refuse(checked, name)
    return {"shadow_prices": pd.concat(losses, ignore_index=True), "price_checks": checked}


def clear(bid_BLN: Float[Tensor, "B L N"], tariff: Tariff, budget: float) -> Cleared:
    """The uniform price's hard gates, and the linear program's dual."""
    rows, _, agents = bid_BLN.shape
    supply_BL = _supply(tariff, budget)
    active_N, limit_BN = torch.ones(agents, dtype=torch.bool), torch.full((rows, agents), torch.inf)
    clearing, _ = UniformPrice().clear(bid_BLN, tariff, supply_BL, active_N, limit_BN, {})
    price_B = optimal(bid_BLN, tariff, supply_BL).price_M.double()
    fits_B = supply_BL.sum(1) >= tariff.dense_flops_BL.sum(1)
    return Cleared(
        clearing.allocation_BLN.bool(),
        clearing.spend_flops.long(),
        torch.where(fits_B, 0.0, price_B),
    )


def optimal(bid_BLN: Tensor, tariff: Tariff, supply_BL: Tensor) -> Optimum:
    """The linear program of each row, wallets apart, in double precision."""
    rows, _, agents = bid_BLN.shape
    active_N = torch.ones(agents, dtype=torch.bool)
    limit_BN = torch.full((rows, agents), torch.inf, dtype=torch.float64)
    return optimum(Goods.of(bid_BLN.double(), tariff, supply_BL, active_N, limit_BN, "sequence"))


def slope_of_welfare(bid_BLN: Tensor, tariff: Tariff, budget: float) -> dict[str, float]:
    """The mean price of a layer's rows, and the slope of their optimal welfare in supply.

    Returns:
        ``price`` and ``finite_difference``, credits per GFLOP.
    """
    supply_BL, dense_B = _supply(tariff, budget), tariff.dense_flops_BL.sum(1)
    step_B = (dense_B * _STEP).long().clamp(min=1)
    first_BL = tariff.mask_BL & (tariff.mask_BL.cumsum(1) == 1)
    step_BL = step_B[:, None] * first_BL
    more = optimal(bid_BLN, tariff, supply_BL + step_BL).welfare_M.sum()
    less = optimal(bid_BLN, tariff, supply_BL - step_BL).welfare_M.sum()
    price_B = optimal(bid_BLN, tariff, supply_BL).price_M
    return {
        "price": float((price_B * step_B).sum() / step_B.sum()),
        "finite_difference": float((more - less) / (2 * step_B.sum()) * FLOPS_PER_GFLOP),
    }


def _supply(tariff: Tariff, budget: float) -> Tensor:
    return (tariff.dense_flops_BL.double() * budget).floor().long()


def _only(cleared: list[Cleared], layers: list[int]) -> list[Cleared]:
    return [cleared[layer] for layer in layers]


def _gates(dense: Dense, cleared: list[Cleared], scarce: list[int]) -> Gates:
    """Everybody serves where compute is not scarce."""
    everybody = torch.ones_like(cleared[0].gate_BLN)
    return [each.gate_BLN if layer in scarce else everybody for layer, each in enumerate(cleared)]


def _between(
    dense: Dense, layer: int, budgets: list[float], at: list[tuple[list[Cleared], Tensor]]
) -> pd.DataFrame:
    """Each row's saving, price of the saving and rise of loss between neighbouring budgets."""
    frames = []
    for place, ((ample, loss_B), (short, more_B)) in enumerate(pairwise(at)):
        saved_YB = torch.stack([a.spent_B - s.spent_B for a, s in zip(ample, short, strict=True)])
        price_YB = torch.stack(
            [(a.price_B + s.price_B) / 2 for a, s in zip(ample, short, strict=True)]
        )
        gflops_YB = saved_YB / FLOPS_PER_GFLOP
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "budget_high": budgets[place],
                    "budget_fraction": budgets[place + 1],
                    "row": (torch.arange(saved_YB.shape[1]) + dense.first_row).numpy(),
                    "saved_gflops": gflops_YB.sum(0).numpy(force=True),
                    "priced_credits": (price_YB * gflops_YB).sum(0).numpy(force=True),
                    "loss_change": (more_B - loss_B).numpy(force=True),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _refuse(checked: pd.DataFrame, policy: str) -> None:
    """Stop where the dual is not the slope of optimal welfare."""
    means = checked.groupby(["layer", "budget_fraction"])[["price", "finite_difference"]].mean()
    error = (means["finite_difference"] / means["price"] - 1).abs()
    if (error > _TOLERANCE).any():
        layer, budget = error.idxmax()
        raise EconomyError(
            f"the shadow price of {policy} bids in layer {layer} at {budget} supply is "
            f"{error.max():.1%} off the slope of optimal welfare; report this with the config"
        )
