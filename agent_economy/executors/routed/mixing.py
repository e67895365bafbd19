"""Scores and mixing: what served heads read of their row's tokens.

Pairs of a row and a unit stand side by side in the query dimension, so one call of scaled
dot-product attention mixes them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from agent_economy.executors.routed.passage import Passage
from agent_economy.executors.routed.ragged import Group
from agent_economy.executors.routed.rotary import Rotary, rotate


@dataclass(frozen=True)
class Mixing:
    """One layer's mixing in one forward.

    Attributes:
        passage: the forward under way.
        key_BULK: keys of all tokens.
        value_BULK: values of all tokens.
        rotary: positions of the tokens that run now, where the architecture rotates.
        position_bias: (1, H, L, L) to be added to scores, where the architecture has one.
        scaling: of the scores.
    """

    passage: Passage
    key_BULK: Tensor
    value_BULK: Tensor
    rotary: Rotary | None
    position_bias: Tensor | None
    scaling: float

    def mix(self, flat: Tensor) -> None:
        """Turn queries into what heads read, in place."""
        groups, width = self.passage.heads, self.passage.shape.head_dim
        start = 0
        if groups[0].token_X is None:
            group = groups[0]
            start = group.tokens * len(group.agents) * width
            mixed_ThK = self._everywhere(group, flat[:start])
            flat[:start].view(mixed_ThK.shape).copy_(mixed_ThK)
            groups = groups[1:]
        if groups:
            flat[start:] = self._pairs(groups, flat[start:]).flatten()

    def _everywhere(self, group: Group, flat: Tensor) -> Tensor:
        """Heads that run on all tokens: (T, h, K)."""
        passage, rotary, position_bias = self.passage, self.rotary, self.position_bias
        key_BULK, value_BULK = self.key_BULK, self.value_BULK
        queries, shape = passage.queries, passage.shape
        query_ThK = flat.view(queries.tokens, len(group.agents), shape.head_dim)
        if rotary is not None:
            query_ThK = rotate(query_ThK, rotary[0][:, None], rotary[1][:, None])
        share = shape.heads // shape.kv_heads
        unit_h = [head // share for head in group.agents]
        if unit_h != list(range(shape.kv_heads)):
            index = torch.tensor(unit_h, device=flat.device)
            key_BULK, value_BULK = (each.index_select(1, index) for each in (key_BULK, value_BULK))
        seen = passage.visible()
        alone = shape.causal and passage.past == 0 and passage.all_seen
        mask = None if seen is None or alone else seen[:, None]
        if position_bias is not None:
            bias = position_bias[:1, group.agents, : queries.length]
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        mixed_BhlK = functional.scaled_dot_product_attention(
            queries.unpack(query_ThK).transpose(1, 2),
            key_BULK,
            value_BULK,
            attn_mask=mask,
            is_causal=alone and queries.length > 1,
            scale=self.scaling,
        )
        return queries.pack(mixed_BhlK.transpose(1, 2))

    def _pairs(self, groups: list[Group], flat: Tensor) -> Tensor:
        """Heads that run on some tokens: (P, K), group by group, token by token."""
        passage, rotary, position_bias = self.passage, self.rotary, self.position_bias
        key_BULK, value_BULK = self.key_BULK, self.value_BULK
        queries, sizes, device = passage.queries, passage.shape, flat.device
        query_PK = flat.view(-1, sizes.head_dim)
        token_P, head_P = _pairs_of(groups, device)
        if rotary is not None:
            query_PK = rotate(query_PK, rotary[0][token_P], rotary[1][token_P])
        share = sizes.heads // sizes.kv_heads
        units = sorted({head // share for group in groups for head in group.agents})
        position_U = torch.zeros(sizes.kv_heads, dtype=torch.long, device=device)
        position_U[units] = torch.arange(len(units), device=device)
        if len(units) < sizes.kv_heads:
            key_BULK, value_BULK = key_BULK[:, units], value_BULK[:, units]
        padded_P = queries.places(token_P)
        row_P, place_P = padded_P // queries.length, padded_P % queries.length
        line_P = row_P * len(units) + position_U[head_P // share]
        slot_P, slots = _slots(line_P, queries.rows * len(units))
        shape = queries.rows, len(units), slots
        at_P = line_P * slots + slot_P
        query = flat.new_zeros(queries.rows * len(units) * slots, sizes.head_dim)
        query.index_copy_(0, at_P, query_PK)
        mask = self._pair_mask(row_P, place_P, at_P, shape)
        if position_bias is not None:
            own_PL = position_bias[0].flatten(0, 1)[head_P * position_bias.shape[2] + place_P]
            bias = own_PL.new_zeros(len(query), own_PL.shape[1]).index_copy_(0, at_P, own_PL)
            bias = bias.view(*shape, -1)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        mixed = functional.scaled_dot_product_attention(
            query.view(*shape, -1), key_BULK, value_BULK, attn_mask=mask, scale=self.scaling
        )
        return mixed.flatten(0, 2).index_select(0, at_P)

    def _pair_mask(
        self, row_P: Tensor, place_P: Tensor, at_P: Tensor, shape: tuple[int, int, int]
    ) -> Tensor | None:
        """What each slot attends to, (B, U, slots, L) or what spreads to it."""
        seen = self.passage.visible()
        if seen is None:
            return None
        if seen.shape[1] == 1:
            return seen[:, None]
        own_PL = seen[0][place_P] if len(seen) == 1 else seen[row_P, place_P]
        rows, units, slots = shape
        # Empty slots see everything, so that nothing is divided by zero.
        mask = own_PL.new_ones(rows * units * slots, own_PL.shape[1])
        return mask.index_copy_(0, at_P, own_PL).view(*shape, -1)


def _pairs_of(groups: list[Group], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token and head of each pair, in the order of the flat memory."""
    tokens, heads = [], []
    for group in groups:
        assert group.token_X is not None
        own = torch.tensor(group.agents, device=device)
        tokens.append(group.token_X.repeat_interleave(len(own)))
        heads.append(own.repeat(group.tokens))
    return torch.cat(tokens), torch.cat(heads)


def _slots(line_P: Tensor, lines: int) -> tuple[Tensor, int]:
    """A slot of its own in its line for every pair, and the slots of the fullest line."""
    count_N = torch.bincount(line_P, minlength=lines)
    order_P = line_P.argsort(stable=True)
    start_N = count_N.cumsum(0) - count_N
    slot_P = torch.empty_like(line_P)
    ranks = torch.arange(len(line_P), device=line_P.device)
    slot_P[order_P] = ranks - start_N[line_P[order_P]]
    return slot_P, int(count_N.max())
