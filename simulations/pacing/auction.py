"""A stream sold token by token: hindsight, and agents that price it without.

Tokens ``t`` arrive one by one; agent ``a`` bids ``v_ta`` for ``c_ta`` FLOPs. The stream has ``S``
FLOPs in all, to be spent whenever it pays. A price ``mu_t`` is posted before token ``t`` is seen,
every bid of at least ``mu_t c_ta`` is served while FLOPs last, and the price follows the gap
between what was asked for and what was planned (dual descent in its entropic form)::

    mu_{t+1} = mu_t exp(eta (asked_t - target_t) / (S / T)),   eta = rate / sqrt(T)

Without a sample the plan is the same for every token, ``target_t = S / T``. With one sample
(Balseiro, Kumar, Mirrokni, Sivan and Wang 2023, arXiv 2302.02006) it is what another stream spent
at its own best price; beginning at that price is ours.

Regret falls into three parts, exactly. With ``p`` the dual of the stream's linear program and
``u_ta = v_ta - p c_ta`` what a bid is worth beyond that price::

    regret = sum [u]+ - u asked   (asked at the wrong price: never negative)
           + sum u (asked - served)              (asked for when FLOPs had run out)
           + p (S - spend)                       (left over at the end)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float64
from mesa import Agent, Model
from torch import Tensor
from torch.nn.functional import avg_pool1d


class Best(NamedTuple):
    """The linear program's optimum, known in hindsight.

    Attributes:
        welfare_D: credits.
        price_D: its dual, credits per FLOP.
    """

    welfare_D: Float64[Tensor, "D"]
    price_D: Float64[Tensor, "D"]


def hindsight(
    bid_DTA: Float64[Tensor, "D T A"],
    flops_DTA: Float64[Tensor, "D T A"],
    supply_D: Float64[Tensor, "D"],
) -> Best:
    """The fractional knapsack of whole streams, by one sort.

    Args:
        bid_DTA: credits.
        flops_DTA: FLOPs.
        supply_D: of the whole stream.
    """
    bid_DI, flops_DI = bid_DTA.flatten(1), flops_DTA.flatten(1)
    density_DI, order_DI = (bid_DI / flops_DI).sort(1, descending=True)
    flops_DI = flops_DI.gather(1, order_DI)
    before_DI = flops_DI.cumsum(1) - flops_DI
    bought_DI = (supply_D[:, None] - before_DI).clamp(min=0).minimum(flops_DI)
    cut_D1 = (before_DI + flops_DI <= supply_D[:, None]).sum(1, keepdim=True)
    last = density_DI.shape[1] - 1
    price_D = density_DI.gather(1, cut_D1.clamp(max=last))[:, 0]
    price_D = torch.where(cut_D1[:, 0] > last, 0.0, price_D)
    return Best((bought_DI * density_DI).sum(1), price_D)


def planned(
    bid_DTA: Float64[Tensor, "D T A"],
    flops_DTA: Float64[Tensor, "D T A"],
    price_D: Float64[Tensor, "D"],
    supply_D: Float64[Tensor, "D"],
) -> Float64[Tensor, "D T"]:
    """What every token of a sample spends at a price, scaled to spend the supply."""
    wants_DTA = bid_DTA >= price_D[:, None, None] * flops_DTA
    spend_DT = (wants_DTA * flops_DTA).sum(-1)
    return spend_DT * (supply_D / spend_DT.sum(1).clamp(min=1))[:, None]


def smoothed(
    plan_DT: Float64[Tensor, "D T"], window: int, supply_D: Float64[Tensor, "D"]
) -> Float64[Tensor, "D T"]:
    """A plan's moving average, scaled to spend the supply.

    Args:
        plan_DT: FLOPs per token.
        window: tokens, the one at hand in the middle; fewer at the ends.
        supply_D: of the whole stream.
    """
    mean_DT = avg_pool1d(
        plan_DT[:, None], 2 * (window // 2) + 1, 1, window // 2, count_include_pad=False
    )[:, 0]
    return mean_DT * (supply_D / mean_DT.sum(1).clamp(min=1))[:, None]


class Auction(Model):
    """Many streams sold side by side; a step is one token of each.

    Every pacer sells the same streams on its own: none sees what another sold.

    Args:
        bid_DTA: credits.
        flops_DTA: FLOPs.
        supply_D: of the whole stream.
        seed: of Mesa's own random numbers.

    Attributes:
        best: what can be reached in hindsight, by which regret is measured.
        token: the one on sale.
    """

    def __init__(
        self,
        bid_DTA: Float64[Tensor, "D T A"],
        flops_DTA: Float64[Tensor, "D T A"],
        supply_D: Float64[Tensor, "D"],
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self.bid_DTA, self.flops_DTA, self.supply_D = bid_DTA, flops_DTA, supply_D
        self.best = hindsight(bid_DTA, flops_DTA, supply_D)
        self.length, self.token = bid_DTA.shape[1], 0

    def step(self) -> None:
        """Sell one token of every stream."""
        bid_DA, flops_DA = self.bid_DTA[:, self.token], self.flops_DTA[:, self.token]
        worth_DA = bid_DA - self.best.price_D[:, None] * flops_DA
        self.agents.do("sell", bid_DA, flops_DA, worth_DA)
        self.token += 1
        self.running = self.token < self.length


class Pacer(Agent):
    """A seller with a price and a plan for every stream.

    Args:
        model: the auction.
        name: of the method.
        target_DT: planned spend, FLOPs.
        price_D: the first price, credits per FLOP.
        rate: step of the dual update, over the square root of the length; 0 keeps the price.

    Attributes:
        welfare_D: credits of what was served.
        spend_D: FLOPs.
        mispriced_D: credits lost by asking at the wrong price.
        refused_D: credits lost by what was asked for after FLOPs had run out.
        drift_D: sum of squares of the price's log distance from the best one.
    """

    def __init__(
        self,
        model: Auction,
        name: str,
        target_DT: Float64[Tensor, "D T"],
        price_D: Float64[Tensor, "D"],
        rate: float,
    ) -> None:
        super().__init__(model)
        self.name, self.target_DT = name, target_DT
        self.price_D, self.first_D = price_D, price_D
        self.step_size = rate / model.length**0.5
        self.even_D = model.supply_D / model.length
        zero_D = torch.zeros_like(model.supply_D)
        self.welfare_D, self.spend_D = zero_D, zero_D
        self.mispriced_D, self.refused_D, self.drift_D = zero_D, zero_D, zero_D

    def sell(
        self,
        bid_DA: Float64[Tensor, "D A"],
        flops_DA: Float64[Tensor, "D A"],
        worth_DA: Float64[Tensor, "D A"],
    ) -> None:
        """Post the price, serve while FLOPs last, move the price.

        Args:
            bid_DA: of the token on sale.
            flops_DA: FLOPs.
            worth_DA: credits beyond what the best price asks for.
        """
        auction = self.model
        wants_DA = bid_DA >= self.price_D[:, None] * flops_DA
        asked_DA = (wants_DA * flops_DA).cumsum(1)
        served_DA = wants_DA & (asked_DA <= (auction.supply_D - self.spend_D)[:, None])
        self.spend_D = self.spend_D + (served_DA * flops_DA).sum(1)
        self.welfare_D = self.welfare_D + (served_DA * bid_DA).sum(1)
        lost_DA = worth_DA.clamp(min=0) - worth_DA * wants_DA
        self.mispriced_D = self.mispriced_D + lost_DA.sum(1)
        self.refused_D = self.refused_D + (worth_DA * (wants_DA & ~served_DA)).sum(1)
        self.drift_D = self.drift_D + (self.price_D / auction.best.price_D).log().square()
        gap_D = (asked_DA[:, -1] - self.target_DT[:, auction.token]) / self.even_D
        self.price_D = self.price_D * (self.step_size * gap_D).exp()

    @property
    def unspent_D(self) -> Float64[Tensor, "D"]:
        """Credits that the FLOPs left over are worth at the best price."""
        return self.model.best.price_D * (self.model.supply_D - self.spend_D)
