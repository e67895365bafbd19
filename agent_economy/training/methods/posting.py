"""Prices that are posted for all layers of an economy, so that its spend keeps to a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from agent_economy.economy import Economy

POSTING_ROWS = 2048
"""Training rows that a last price is set on: it has to hold on others to half a percent."""


_FAR = 200.0
"""A step of the price's logarithm that leads nowhere, well before exponentials overflow."""


def post(economy: Economy, price: float | Tensor) -> None:
    """Let a price stand in every layer, credits per GFLOP."""
    price = torch.as_tensor(price, dtype=torch.float64, device=economy.population.device)
    for state in economy.market.states:
        state["price"] = price


@torch.no_grad()
def spend_share(economy: Economy, batches: list[dict[str, Any]]) -> float:
    """What agents are charged over what all would be, on batches that are forgotten afterwards."""
    with economy.trying():
        receipts = [economy(**batch).receipt for batch in batches]
    spend = sum(each.charged for each in receipts)
    return float(spend / sum(each.dense_charge for each in receipts))


@torch.no_grad()
def post_price(
    economy: Economy, batches: list[dict[str, Any]], budget: float, halvings: int = 8
) -> float:
    """Post the lowest price at which hard spend on the batches keeps to a budget; returns it.

    From where the price stands, steps that double until the budget lies between two prices, then
    halving, all on the price's logarithm.

    Args:
        economy: with the mechanism ``fixed_price``.
        batches: inputs of the model.
        budget: what agents are charged over what all of them would be.
        halvings: passes over the batches once two prices are found.

    Raises:
        EconomyError: no price keeps to the budget: the bidding alone costs more.
    """

    def overspends(log_price: float) -> bool:
        post(economy, math.exp(log_price))
        return spend_share(economy, batches) > budget

    low = high = math.log(float(economy.market.states[0]["price"]))
    if economy.market.budget_fraction >= 1:
        return math.exp(high)  # no market is run at full supply, whatever the price
    step = 0.2
    while overspends(high):
        low, high, step = high, high + step, step * 2
        if step > _FAR:
            raise EconomyError(
                f"no price keeps spend to {budget:g} of dense FLOPs; give a larger --budget"
            )
    while low == high or not overspends(low):
        low, high, step = low - step, low, step * 2
        if step > _FAR:
            break  # everything is bought at any price
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if overspends(middle) else (low, middle)
    post(economy, math.exp(high))
    return math.exp(high)
