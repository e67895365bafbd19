"""What bidding and clearing take per token; a receipt's FLOPs where milliseconds are charged."""

from __future__ import annotations

import math
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariffs
from agent_economy.market.bidding import Bidding
from agent_economy.mechanisms import Mechanism
from agent_economy.mechanisms.uniform_price import UniformPrice


def market_flops(
    bidding: Bidding, mechanism: Mechanism, shape: LayerShape, layer: int
) -> tuple[int, int]:
    """FLOPs per token of bidding and of clearing in a layer."""
    if mechanism.flops_per_bid == 0:
        return 0, 0  # nobody bids where nobody listens
    return bidding.flops_per_token(layer, shape.hidden), mechanism.flops_per_bid * shape.agents


def market_charge(bidding: Bidding, mechanism: Mechanism, shape: LayerShape, layer: int) -> int:
    """The same in the unit that agents are charged in.

    On a clock bidding is a matrix product, and clearing takes what a uniform price was measured to
    take, in the ratio of declared FLOPs.
    """
    bids, clearing = market_flops(bidding, mechanism, shape, layer)
    rates = shape.rates
    if rates is None or rates.bid is None:
        return bids + clearing
    return math.ceil(bids * rates.flop + clearing * rates.bid / UniformPrice.flops_per_bid)


def tariffs_in_flops(
    shape: LayerShape, layers: int, mask_BL: Bool[Tensor, "B L"], *, pooled: bool
) -> list[Tariff] | None:
    """Price lists in FLOPs, to report beside; None where FLOPs are charged anyway."""
    if shape.rates is None:
        return None
    return layer_tariffs(replace(shape, rates=None), layers, mask_BL, pooled=pooled)
