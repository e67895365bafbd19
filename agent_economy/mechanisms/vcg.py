"""VCG: the best allocation wins, and every winner pays what its presence costs the others.

Open units are fixed first, so that no set-up fee is left to decide on. Where agents come in two
sizes (heads of one cost, blocks of another) the welfare optimum is exact: for every number ``h`` of
head items the ``h`` best of them and as many of the best block items as still fit,

    ``W = max_h  V_heads(h) + V_blocks(floor((supply - h w_heads) / w_blocks))``

and a winner of rank ``r`` pays the externality ``W_{-i} - (W - bid_i)``, where ``W_{-i}`` is the
same maximum without it, read off running maxima. With more sizes (a smaller last block, costs that
grow along a row) winners are found greedily by density up to the first that does not fit, and pay
their critical value: the density of that first item, times their FLOPs.

    inputs      as for the uniform price
    price       payment per GFLOP of every winner (B, L, N); losers are quoted the dearest unserved
                bid; the relaxed form has one price per budget
    guarantees  feasible; truthful in every single (agent, token) bid as long as it moves no
                opening: with learned openings or without fees; monotone; relaxed form
                differentiable (winners of the sigmoid market among open units); not causal. An
                agent that bids on many tokens pays for each as if it were alone, so joint
                misreports may still gain.
    complexity  O(I log I)
    source      Vickrey 1961; Clarke 1971; Groves 1973; critical values: Lehmann, O'Callaghan and
                Shoham 2002

Units open by what earlier forwards bid, in the first forward by what this one does (``openings``).
Set-up fees count against supply and are not billed.

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.vcg import VCG
    >>> bid = torch.tensor([[[5.0, 4.0, 2.0]]])
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 3, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[20]]), torch.ones(3, dtype=torch.bool), torch.full((1, 3), 9e9), {}
    >>> clearing, _ = VCG().clear(bid, tariff, *rest)
    >>> clearing.allocation_BLN.int().tolist(), clearing.payment_BLN.tolist()
    ([[[1, 1, 0]]], [[[2.0, 2.0, 0.0]]])
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from agent_economy.mechanisms.base import Guarantees, Mechanism, Scope, State
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.openings import by_total_bid, by_worth, learn_standing
from agent_economy.mechanisms.order import descending
from agent_economy.mechanisms.relaxation import soft_lines


class VCG(Mechanism):
    """Winners pay their externality; see the module's heading."""

    name = "vcg"
    guarantees = Guarantees(truthful=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "token", "batch")
    learns = True
    bills_fees = False
    flops_per_bid = 64

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        lines = self._lines(goods, state)
        split = goods.tariff.two_sizes(one_market=goods.scope == "batch")
        if split is None:
            served = lines.serve(lines.density)
            price = torch.zeros_like(lines.density) + lines.dearest_unserved(served)
        else:
            served, price = _exact(lines, split)
        return lines.back(served), lines.back(price), learn_standing(goods, state)

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        gate_BNL, price = soft_lines(self._lines(goods, state), temperature)
        return gate_BNL, price, learn_standing(goods, state)

    @staticmethod
    def _lines(goods: Goods, state: State) -> Lines:
        known = "standing_U" in state
        return Lines(goods, by_worth(goods, state["standing_U"]) if known else by_total_bid(goods))


class _Kind(NamedTuple):
    """Items of one size, best first.

    Attributes:
        value: credits, float64.
        flops: what one costs, (..., 1).
        order: where each stood before sorting.
    """

    value: Tensor
    flops: Tensor
    order: Tensor

    @classmethod
    def of(cls, density: Tensor, flops: Tensor) -> _Kind:
        """Sort; a kind without items is given any size."""
        order = descending(density)
        size = flops[..., :1] if flops.shape[-1] else torch.ones_like(flops.sum(-1, keepdim=True))
        value = density.gather(-1, order).double() * size / FLOPS_PER_GFLOP
        return cls(value, size.long(), order)


def _exact(lines: Lines, split: int) -> tuple[Tensor, Tensor]:
    """Winners and what each pays per GFLOP, where ``split`` agents are of the first one's size.

    Money is added up in float64: a payment is a difference of large sums.
    """
    agents = lines.goods.value_BNL.shape[1]
    items = lines.density.shape[-1]
    by_size_N = lines.goods.tariff.by_size_N

    def placed(x: Tensor, order_N: Tensor) -> Tensor:
        """The items of a line with its agents in another order."""
        moved: Tensor = x.unflatten(-1, (agents, -1)).index_select(-2, order_N).flatten(-2)
        return moved

    density, flops = placed(lines.density, by_size_N), placed(lines.flops, by_size_N)
    counts = [items // agents * split, items // agents * (agents - split)]
    kinds = [
        _Kind.of(*each)
        for each in zip(density.split(counts, -1), flops.split(counts, -1), strict=True)
    ]
    (one, flops_one, _), (two, flops_two, _) = kinds
    total_one, total_two = pad(one.cumsum(-1), (1, 0)), pad(two.cumsum(-1), (1, 0))
    count_one, count_two = one.shape[-1], two.shape[-1]

    h = torch.arange(count_one + 1, device=one.device)
    room = lines.left.long() - h * flops_one
    k = room.clamp(min=0).div(flops_two, rounding_mode="floor").clamp(max=count_two)
    nothing = torch.finfo(torch.float64).min
    welfare = torch.where(room >= 0, total_one + total_two.gather(-1, k), nothing)
    best, h_best = welfare.max(-1, keepdim=True)
    k_best = k.gather(-1, h_best)

    # Without head r: up to r heads as before; from r + 1 on, one more of them stands for r.
    upto = welfare.cummax(-1).values
    swapped = welfare[..., :-1] + one
    after = swapped.flip(-1).cummax(-1).values.flip(-1)
    after = pad(after, (0, 1), value=nothing)[..., 1:]
    without_one = torch.maximum(upto[..., :-1], after - one)

    # Without block r: where at most r blocks fit as before; where more do, one more stands for r.
    one_more = total_two.gather(-1, (k + 1).clamp(max=count_two))
    more = torch.where(room >= 0, total_one + one_more, nothing)
    upto = pad(more.cummax(-1).values, (1, 0), value=nothing)
    since = pad(welfare.flip(-1).cummax(-1).values.flip(-1), (0, 1), value=nothing)
    r = torch.arange(count_two, device=one.device)
    spare = lines.left.long() - (r + 1) * flops_two
    first = spare.div(flops_one, rounding_mode="floor") + 1
    first = torch.where(spare >= 0, first, 0).clamp(max=count_one + 1)
    without_two = torch.maximum(upto.gather(-1, first) - two, since.gather(-1, first))

    served, prices = [], []
    for kind, without, count in zip(
        kinds, (without_one, without_two), (h_best, k_best), strict=True
    ):
        rank = torch.arange(kind.value.shape[-1], device=one.device)
        wins = (rank < count) & (kind.value > 0)
        pays = (without - (best - kind.value)).clamp(min=0).minimum(kind.value)
        price = (pays / kind.flops * FLOPS_PER_GFLOP).to(lines.density.dtype)
        served.append(torch.zeros_like(wins).scatter_(-1, kind.order, wins))
        prices.append(torch.zeros_like(price).scatter_(-1, kind.order, price))
    back_N = by_size_N.argsort()
    chosen = placed(torch.cat(served, -1), back_N)
    quote = lines.dearest_unserved(chosen)
    return chosen, torch.where(chosen, placed(torch.cat(prices, -1), back_N), quote)
