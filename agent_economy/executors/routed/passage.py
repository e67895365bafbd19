"""One forward on its way through the layers: which tokens run, and who serves them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.executors.masked import STRIDE
from agent_economy.executors.routed.packing import Packing
from agent_economy.executors.routed.ragged import (
    Group,
    Slices,
    contributions,
    everybody,
    group_agents,
)

if TYPE_CHECKING:
    from agent_economy.costs.shape import LayerShape
    from agent_economy.executors.routed.past import Pasts

#: Shares of the tokens from which on an agent runs on all of them. On MiniLM's shape a product
#: with one head's 32 columns reaches 60 % of a wide one's speed, one with a block's 128 columns
#: 85 %: from there on the wide product alone is faster. Keys and values start earlier, at half,
#: since those that are computed for all tokens need no scattering, either.
HEADS_EVERYWHERE, BLOCKS_EVERYWHERE, UNITS_EVERYWHERE = 0.6, 0.85, 0.5


@dataclass(frozen=True)
class Ways:
    """How groups are run.

    Attributes:
        heads_everywhere: share of the tokens from which on a head runs on all of them.
        blocks_everywhere: the same of a neuron block.
        units_everywhere: the same of keys and values, where no cache keeps them.
        grouped: one product for groups of all sizes, instead of one each.
    """

    heads_everywhere: float = HEADS_EVERYWHERE
    blocks_everywhere: float = BLOCKS_EVERYWHERE
    units_everywhere: float = UNITS_EVERYWHERE
    grouped: bool = False


class Passage:
    """What a forward's modules share.

    Args:
        shape: sizes of a layer.
        mask_BL: real tokens, those in a cache included.
        past: tokens in the cache.
        pasts: what must be remembered between forwards that go on from a cache.
        ways: how groups are run.

    Attributes:
        context: the tokens that run now, as one run of real ones.
        queries: those of them whose outputs this layer computes.
        context_1TD: what keys and values of this layer are computed from, where that is more than
            the layer's own tokens.
        narrowed_1TD: the layer's own tokens then.
        heads: who serves whom in this layer, among its heads.
        blocks: among its neuron blocks; agents are counted from the first block.
        served_TH: heads that serve each query token; None where all serve all.
        sketches: output weights of this layer's heads and blocks in a random projection, where
            what agents add is measured.
        contributions: what was measured, heads first.
    """

    def __init__(
        self, shape: LayerShape, mask_BL: Bool[Tensor, "B L"], past: int, pasts: Pasts, ways: Ways
    ) -> None:
        self.shape, self.mask_BL, self.past, self.pasts = shape, mask_BL, past, pasts
        self.ways = ways
        self.context = self.queries = Packing(mask_BL[:, past:])
        self.context_1TD: Tensor | None = None
        self.narrowed_1TD: Tensor | None = None
        self.heads: list[Group] = []
        self.blocks: list[Group] = []
        self.served_TH: Tensor | None = None
        self.sketches: tuple[Tensor, Tensor] | None = None
        self.contributions: list[Tensor] = []
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}

    def serve(
        self,
        gate_BLN: Tensor | None,
        present: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    ) -> None:
        """Take up a layer's gates for the tokens that run now; None serves everybody.

        Args:
            gate_BLN: who serves which token.
            present: heads and blocks that a compacted layer still holds; None for all.
        """
        shape, tokens = self.shape, self.queries.tokens
        if gate_BLN is None and present is not None:
            gate_BLN = torch.zeros(*self.mask_BL[:, self.past :].shape, shape.agents)
            gate_BLN[..., [*present[0], *(shape.heads + block for block in present[1])]] = 1.0
            gate_BLN = gate_BLN.to(self.mask_BL.device)
        if gate_BLN is None:
            self.served_TH = None
            self.heads = everybody(shape.heads, tokens)
            self.blocks = everybody(shape.agents - shape.heads, tokens)
            return
        served_TN = self.queries.pack(gate_BLN[:, : self.queries.length]) > 0
        self.served_TH = served_TN[:, : shape.heads]
        merge = not self.ways.grouped
        self.heads = group_agents(
            self.served_TH, everywhere=self.ways.heads_everywhere, merge=merge
        )
        self.blocks = group_agents(
            served_TN[:, shape.heads :], everywhere=self.ways.blocks_everywhere, merge=merge
        )

    def narrow(self, hidden_1TD: Tensor) -> Tensor:
        """From here on only the first token of every row: (1, T, D) -> (1, B, D)."""
        self.context_1TD = hidden_1TD
        first_BL = torch.ones_like(self.mask_BL[:, :1])
        place_T = self.context.place_T
        step = torch.arange(self.context.rows, device=first_BL.device) * self.context.length
        first_B = step if place_T is None else torch.searchsorted(place_T, step)
        self.queries = Packing(first_BL)
        self.narrowed_1TD = hidden_1TD.index_select(1, first_B)
        return self.narrowed_1TD

    def measure(self, flat: Tensor, which: int, slices: Slices, groups: list[Group]) -> None:
        """Measure what heads (0) or blocks (1) add, on the tokens that masked forwards measure."""
        if self.sketches is None:
            return
        stride = STRIDE if self.context_1TD is None else 1
        ones_T = torch.arange(self.queries.tokens, device=flat.device)
        place_T = self.queries.places(ones_T) % self.queries.length
        sampled_T = (place_T + self.past) % stride == 0
        norm_A = contributions(flat, self.sketches[which], sampled_T, slices, groups)
        self.contributions.append(norm_A * stride)

    @cached_property
    def all_seen(self) -> bool:
        """Whether no token in a row is padding."""
        return bool(self.mask_BL.all())

    def visible(self) -> Bool[Tensor, "#B #l L"] | None:
        """Which tokens each query attends to; None for all of them."""
        if not self.shape.causal:
            return None if self.all_seen else self.mask_BL[:, None]
        if self.all_seen and self.queries.length == 1:
            return None
        return self._causal_BlL

    @cached_property
    def _causal_BlL(self) -> Tensor:
        length = self.mask_BL.shape[1]
        ones = self.mask_BL.new_ones(length - self.past, length)
        before_1lL = ones.tril(self.past)[None]
        return before_1lL if self.all_seen else before_1lL & self.mask_BL[:, None]

    def rotary(self, embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the tokens that run now, (T, K); the same for all layers."""
        key = id(embeddings[0])
        if key not in self._rotary:
            cos, sin = (
                self.context.pack(each.expand(self.context.rows, -1, -1)) for each in embeddings
            )
            self._rotary[key] = cos, sin
        return self._rotary[key]
