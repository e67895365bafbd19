"""Hypothesis strategies for markets: small, awkward, and without accidental ties.

Hypothesis draws the structure (rows, tokens, agents, supply, wallets, who is muted); a seeded
generator fills in numbers. Costs are shaped like those of a transformer layer: heads of one price,
blocks of one price but for a smaller last one. Some markets hold tokens that are context and not
served, to nobody or not to some agents, as where a last layer is read at its first token alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.base import Mechanism, State
from agent_economy.mechanisms.goods import Clearing, Goods, Scope

#: Bids of one market differ by at least this much in density, relative to the larger one.
MIN_GAP = 1e-4
#: which tokens can be served, where it is not all of them by everybody
Read = Literal["some", "unevenly"]
_ABUNDANT = 1e30


@dataclass(frozen=True)
class Market:
    """Everything that ``Mechanism.clear`` is given, apart from the state.

    Attributes:
        bid_BLN: float64 credits.
        tariff: FLOPs per token and per opened unit.
        supply_flops_BL: FLOPs that each token brings to its scope; 0 on padding.
        active_N: agents that are not muted.
        limit_BN: credits that each agent may spend on each row.
    """

    bid_BLN: Tensor
    tariff: Tariff
    supply_flops_BL: Tensor
    active_N: Tensor
    limit_BN: Tensor

    @property
    def mask_BL(self) -> Tensor:
        """Tokens that can be served."""
        return self.tariff.mask_BL

    @property
    def context_B1(self) -> Tensor:
        """Tokens that fees are paid for, counted one by one."""
        return self.tariff.real_BL.sum(1, keepdim=True)

    @property
    def may_BLN(self) -> Tensor:
        """Who may trade: the agent can serve the token and is not muted."""
        may_BLN = self.mask_BL[..., None] & self.active_N
        if self.tariff.narrow_N is None:
            return may_BLN
        return may_BLN & (self.tariff.token_flops_BNL > 0).transpose(1, 2)

    @property
    def units(self) -> int:
        """Set-up units of a row."""
        return self.tariff.setup_flops_U.shape[0]

    def state(self, mechanism: Mechanism, seed: int = 0) -> State:
        """The state before the first forward."""
        return mechanism.initial_state(self.active_N.shape[0], self.units, seed)

    def clear(self, mechanism: Mechanism, state: State | None = None) -> tuple[Clearing, State]:
        """Clear hard, from a first state unless one is given."""
        state = self.state(mechanism) if state is None else state
        return mechanism.clear(*self._arguments, state)

    def relax(
        self, mechanism: Mechanism, temperature: float, state: State | None = None
    ) -> tuple[Clearing, State]:
        """Clear softly, from a first state unless one is given."""
        state = self.state(mechanism) if state is None else state
        return mechanism.relax(*self._arguments, state, temperature=temperature)

    def goods(self, scope: Scope) -> Goods:
        """What a mechanism sees of this market, for the oracles."""
        return Goods.of(*self._arguments, scope)

    @property
    def _arguments(self) -> tuple[Tensor, Tariff, Tensor, Tensor, Tensor]:
        return self.bid_BLN, self.tariff, self.supply_flops_BL, self.active_N, self.limit_BN

    # --- other markets made from this one ------------------------------------------------------

    def bidding(self, bid_BLN: Tensor) -> Market:
        """The same market with other bids."""
        return replace(self, bid_BLN=bid_BLN)

    def supplied(self, fraction: float) -> Market:
        """The same market at a fraction of its dense FLOPs."""
        return replace(self, supply_flops_BL=supply(self.tariff, [fraction] * len(self.limit_BN)))

    def slack(self) -> Market:
        """The same market with wallets that never bind."""
        return replace(self, limit_BN=torch.full_like(self.limit_BN, _ABUNDANT))

    def row(self, b: int) -> Market:
        """One row by itself."""
        only = [b]
        tariff = replace(
            self.tariff,
            token_flops_BNL=self.tariff.token_flops_BNL[only],
            mask_BL=self.mask_BL[only],
            context_BL=self._context(only),
        )
        return Market(
            self.bid_BLN[only],
            tariff,
            self.supply_flops_BL[only],
            self.active_N,
            self.limit_BN[only],
        )

    def cut(self, length: int) -> Market:
        """Every row's first ``length`` tokens, each at the cost that it had."""
        tariff = replace(
            self.tariff,
            token_flops_BNL=self.tariff.token_flops_BNL[..., :length],
            mask_BL=self.mask_BL[:, :length],
            context_BL=self._context((slice(None), slice(length))),
        )
        return replace(
            self,
            bid_BLN=self.bid_BLN[:, :length],
            tariff=tariff,
            supply_flops_BL=self.supply_flops_BL[:, :length],
        )

    def relabelled(
        self, units_U: Tensor, inside_UG: Tensor, rest: Tensor
    ) -> tuple[Market, Tensor, Tensor]:
        """Permute units, agents inside each unit, and agents without a fee.

        Args:
            units_U: permutation of the units.
            inside_UG: for each new unit a permutation of its agents.
            rest: permutation of the agents without a fee.

        Returns:
            The market, the old agent behind each new one, and the old unit behind each.
        """
        tariff = self.tariff
        fee_agents = (units_U[:, None] * tariff.group + inside_UG).flatten()
        old_N = torch.cat((fee_agents, tariff.fee_agents + rest))
        changed = replace(
            tariff,
            token_flops_BNL=tariff.token_flops_BNL[:, old_N],
            setup_flops_U=tariff.setup_flops_U[units_U],
            narrow_N=None if tariff.narrow_N is None else tariff.narrow_N[old_N],
        )
        market = replace(
            self,
            bid_BLN=self.bid_BLN[..., old_N],
            tariff=changed,
            active_N=self.active_N[old_N],
            limit_BN=self.limit_BN[:, old_N],
        )
        return market, old_N, units_U

    def without_fees(self) -> Market:
        """The same agents and token prices, nobody with a set-up fee; supply as it was."""
        free = replace(self.tariff, setup_flops_U=self.tariff.setup_flops_U[:0], group=1)
        return replace(self, tariff=free)

    def token_by_token(self) -> Market:
        """Each token a row of its own; for markets without fees and with slack wallets."""
        rows, length, agents = self.bid_BLN.shape
        flops_BNL = self.tariff.token_flops_BNL.expand(rows, agents, length)
        tariff = replace(
            self.tariff,
            token_flops_BNL=flops_BNL.transpose(1, 2).reshape(-1, agents, 1),
            mask_BL=self.mask_BL.reshape(-1, 1),
            context_BL=None if not self.tariff.patchy else self.tariff.real_BL.reshape(-1, 1),
        )
        return Market(
            self.bid_BLN.reshape(-1, 1, agents),
            tariff,
            self.supply_flops_BL.reshape(-1, 1),
            self.active_N,
            self.limit_BN.repeat_interleave(length, 0),
        )

    def _context(self, part: Any) -> Tensor | None:
        """Some of the tariff's context, where it is given."""
        context_BL = self.tariff.context_BL
        return None if context_BL is None else context_BL[part]

    def temperature(self, relative: float) -> float:
        """So many times the mean density of the bids, in credits per GFLOP."""
        density = self.goods("sequence").density_BNL
        count = int((density > 0).sum())
        return relative * float(density.sum()) / max(count, 1) if count else relative


def relabelled_state(state: State, old_N: Tensor, old_U: Tensor) -> State:
    """What a mechanism remembers, with agents and units in their new places."""
    places = {"N": old_N, "U": old_U}
    return {
        key: value[places[key[-1]]] if key[-2:] in ("_N", "_U") else value
        for key, value in state.items()
    }


def supply(tariff: Tariff, fraction_B: list[float]) -> Tensor:
    """Whole FLOPs per token at a fraction of each row's dense ones, (B, L)."""
    fraction = torch.tensor(fraction_B, dtype=torch.float64)[:, None]
    return (fraction * tariff.dense_flops_BL).floor().long()


def make_tariff(
    generator: np.random.Generator,
    lengths: list[int],
    *,
    columns: int,
    units: int,
    group: int,
    blocks: int,
    read: Read | None = None,
) -> Tariff:
    """A tariff like that of a layer: a smaller last block, heads that grow with position or not.

    Args:
        generator: of all numbers.
        lengths: real tokens of each row.
        columns: 1 where a row's tokens all cost the same.
        units: set-up units.
        group: agents of each unit.
        blocks: agents without a fee.
        read: whether all tokens can be served by everybody (None), by nobody but for some of them
            (``"some"``), or some only by some agents, as in a joint market (``"unevenly"``).
    """
    rows, longest = len(lengths), max(lengths)
    mask_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    projection, score, block, last = (int(x) for x in generator.integers(40, 400, 4))
    fee = int(generator.integers(20, 300))
    if columns > 1:
        context_B1L = mask_BL.cumsum(-1)[:, None]
    else:
        context_B1L = mask_BL.sum(-1)[:, None, None]
    head_BHL = (projection + score * context_B1L).expand(-1, units * group, -1)
    sizes = [block] * max(blocks - 1, 0) + [min(block, last)] * min(blocks, 1)
    block_BGL = torch.tensor(sizes, dtype=torch.long)[:, None].expand(
        rows, blocks, head_BHL.shape[-1]
    )
    fee_U = torch.full((units,), fee, dtype=torch.long)
    flops_BNL = torch.cat((head_BHL, block_BGL), 1)
    if read is None:
        return Tariff(flops_BNL, fee_U, mask_BL, group)
    # Each row's first token is read, and half of the others.
    read_BL = torch.from_numpy(generator.random(mask_BL.shape) < 0.5)
    read_BL[:, 0] = True
    if read == "some":
        return Tariff(flops_BNL, fee_U, mask_BL & read_BL, group, mask_BL)
    narrow_U = generator.random(units) < 0.5
    narrow = np.concatenate((narrow_U.repeat(group), generator.random(blocks) < 0.5))
    narrow_N = torch.from_numpy(narrow)
    flops_BNL = flops_BNL * (read_BL[:, None] | ~narrow_N[:, None])
    return Tariff(flops_BNL, fee_U, mask_BL, group, mask_BL, narrow_N)


def distinct_bids(generator: np.random.Generator, tariff: Tariff, agents: int) -> Tensor:
    """Credits around 1 whose densities all differ, (B, L, N) float64."""
    rows, length = tariff.mask_BL.shape
    count = rows * agents * length
    steps = (generator.permutation(count) + generator.uniform(0.3, 0.7, count)) / count
    density_BNL = torch.from_numpy(np.exp(steps * np.log(100.0) - np.log(10.0)))
    flops_BNL = tariff.double_BNL.expand(rows, agents, length)
    return (density_BNL.reshape(rows, agents, length) * flops_BNL / 500).transpose(1, 2)


def no_ties(market: Market) -> bool:
    """Whether all positive densities, after wallets have scaled them, differ by ``MIN_GAP``."""
    density = market.goods("batch").density_BNL
    sorted_ = density[density > 0].sort().values
    return bool((sorted_[1:] - sorted_[:-1] > MIN_GAP * sorted_[1:]).all())


_FRACTIONS = st.one_of(
    st.sampled_from([0.0, 1.0, 1.3]), st.floats(0.02, 0.25), st.floats(0.25, 0.95)
)


_READ: st.SearchStrategy[Read | None] = st.sampled_from([None, None, "some", "unevenly"])


@st.composite
def markets(
    draw: st.DrawFn,
    *,
    fractions: st.SearchStrategy[float] = _FRACTIONS,
    zeros: bool = True,
    mutes: bool = True,
    tight: bool = True,
    max_tokens: int = 6,
) -> Market:
    """Markets of 1 to 3 rows, up to 6 tokens, 3 set-up units, 2 agents a unit and 4 blocks.

    Args:
        draw: given by Hypothesis.
        fractions: budget fraction of each row.
        zeros: whether some bids are 0.
        mutes: whether some agents are muted.
        tight: whether some wallets bind.
        max_tokens: length of the longest row.
    """
    lengths = draw(st.lists(st.integers(1, max_tokens), min_size=1, max_size=3))
    units = draw(st.integers(0, 3))
    group = draw(st.integers(1, 2)) if units else 1
    blocks = draw(st.integers(0 if units else 1, 4))
    grows = draw(st.booleans())
    read = draw(_READ)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tariff = make_tariff(
        generator,
        lengths,
        columns=max(lengths) if grows else 1,
        units=units,
        group=group,
        blocks=blocks,
        read=read,
    )
    agents = units * group + blocks
    bid_BLN = distinct_bids(generator, tariff, agents)
    if zeros and draw(st.booleans()):
        bid_BLN = bid_BLN * torch.from_numpy(generator.random(bid_BLN.shape) > 0.15)
    active_N = torch.ones(agents, dtype=torch.bool)
    if mutes and draw(st.booleans()):
        active_N = torch.from_numpy(generator.random(agents) > 0.25)
    limit_BN = torch.full((len(lengths), agents), _ABUNDANT, dtype=torch.float64)
    if tight and draw(st.booleans()):
        share = torch.from_numpy(generator.uniform(0.1, 1.6, limit_BN.shape))
        limit_BN = share * (bid_BLN * tariff.mask_BL[..., None]).sum(1)
    fraction_B = [draw(fractions) for _ in lengths]
    market = Market(bid_BLN, tariff, supply(tariff, fraction_B), active_N, limit_BN)
    assume(no_ties(market))
    return market


@st.composite
def relabellings(draw: st.DrawFn, market: Market) -> tuple[Market, Tensor, Tensor]:
    """``Market.relabelled`` with random permutations."""
    tariff = market.tariff

    def shuffled(count: int) -> list[Any]:
        return draw(st.permutations(range(count)))

    units_U = torch.tensor(shuffled(market.units), dtype=torch.long)
    inside = [shuffled(tariff.group) for _ in range(market.units)]
    inside_UG = torch.tensor(inside, dtype=torch.long).reshape(market.units, tariff.group)
    rest = torch.tensor(shuffled(market.active_N.shape[0] - tariff.fee_agents), dtype=torch.long)
    return market.relabelled(units_U, inside_UG, rest)


__all__ = ["Market", "distinct_bids", "make_tariff", "markets", "relabelled_state", "supply"]
