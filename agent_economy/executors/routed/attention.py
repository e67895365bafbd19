"""Attention of served (token, head) pairs only, for every architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional

from agent_economy.adapters.base import projection_weight
from agent_economy.compaction.absent import BiasOnly
from agent_economy.errors import EconomyError
from agent_economy.executors.routed.passage import Passage
from agent_economy.executors.routed.ragged import (
    Group,
    Slices,
    everybody,
    group_agents,
    parts,
    read_through,
    write_through,
)

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter

Rotary = tuple[Tensor, Tensor]


class RoutedAttention(nn.Module):
    """Stands in for a layer's attention and its output projection during one forward.

    Queries, scores and output slices are computed for the pairs that are served; keys and values
    for units that any token of a row uses, for that row's real tokens. Pairs of a row and a unit
    stand side by side in the query dimension, so one call of scaled dot-product attention mixes
    them all.

    Args:
        adapter: the architecture.
        layer: index.

    Attributes:
        passage: the forward under way, while there is one.
    """

    def __init__(self, adapter: Adapter, layer: int) -> None:
        super().__init__()
        shape, sites = adapter.shape, adapter.sites[layer]
        self.shape = shape
        replaced = sites.layer.get_submodule(adapter.attention)
        present_H, present_U = _present(adapter, layer)
        # In tuples, so that they are not this module's own.
        self._projections = tuple(
            sites.layer.get_submodule(p) for p in (adapter.projections if present_H else ())
        )
        self._output = (sites.attention_output,)
        self.scaling: float = getattr(replaced, "scaling", shape.head_dim**-0.5)
        self.layer_idx: int = getattr(replaced, "layer_idx", layer)
        fused = len(adapter.projections) == 1
        heads, units = len(present_H) * shape.head_dim, len(present_U) * shape.head_dim
        offsets = (0, heads, heads + units) if fused else (0, 0, 0)
        width_H, width_U = (shape.head_dim,) * shape.heads, (shape.head_dim,) * shape.kv_heads
        self._slices = (
            Slices(width_H, offsets[0], present_H),
            Slices(width_U, offsets[1], present_U),
            Slices(width_U, offsets[2], present_U),
        )
        self._columns = Slices(width_H, 0, present_H)
        self.passage: Passage | None = None

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        *,
        position_embeddings: Rotary | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """(1, T, D) -> what heads add with the projection's bias, (1, T, D), and no weights.

        The architecture's own mask is not looked at: the passage knows real tokens, and who is
        causal.
        """
        passage = self.passage
        assert passage is not None
        x_TD = context_TD = hidden_states[0]
        if passage.context_1TD is not None:
            if hidden_states is not passage.narrowed_1TD:
                raise EconomyError(
                    "this architecture changes hidden states before its attention, so its last "
                    "layer cannot run for one token only; use RoutedExecutor(..., pooled=False)"
                )
            context_TD = passage.context_1TD[0]
        cache = getattr(past_key_values, "self_attention_cache", past_key_values)
        rotary = None
        if position_embeddings is not None:
            rotary = passage.rotary(position_embeddings)
        (output,) = self._output
        out_TD = bias_rows(output, len(x_TD), x_TD)
        if not (passage.heads or cache is not None):
            self._measure(passage, out_TD[:0])
            return out_TD[None], None
        key_BULK, value_BULK = self._keys(passage, context_TD, rotary, cache)
        if passage.heads:
            weight, bias = self._weight(0)
            grouped = passage.ways.grouped
            flat = read_through(x_TD, weight, bias, self._slices[0], passage.heads, grouped=grouped)
            self._mix(passage, flat, key_BULK, value_BULK, rotary, position_bias)
            self._measure(passage, flat)
            columns = projection_weight(output)
            write_through(out_TD, flat, columns, self._columns, passage.heads, grouped=grouped)
        else:
            self._measure(passage, out_TD[:0])
        return out_TD[None], None

    def _measure(self, passage: Passage, flat: Tensor) -> None:
        passage.measure(flat.flatten(), 0, self._columns, passage.heads)

    # --- keys and values -----------------------------------------------------------------------

    def _keys(
        self, passage: Passage, context_TD: Tensor, rotary: Rotary | None, cache: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens (B, U, L, K); zeros of units that a row does not use."""
        used_BU = self._used(passage)
        past = None if cache is None else passage.pasts.of(cache, self.layer_idx)
        late_BU = None
        if past is not None and used_BU is not None and past.open_BU is not None:
            late_BU, used_BU = used_BU & ~past.open_BU, used_BU | past.open_BU
        context = passage.context
        if used_BU is None:
            units = everybody(self.shape.kv_heads, context.tokens)
        else:
            # A cache must not hold what nobody asked for: it would pass for what was.
            everywhere = passage.ways.units_everywhere if cache is None else 1.0
            units = group_agents(used_BU[context.row_T], everywhere=everywhere)
        key_BlUK, value_BlUK = (
            self._laid_out(passage, self._read(context_TD, which, units), units) for which in (1, 2)
        )
        padded = None
        if rotary is not None:
            padded = context.unpack(rotary[0]), context.unpack(rotary[1])
            key_BlUK = rotate(key_BlUK, padded[0][:, :, None], padded[1][:, :, None])
        key, value = key_BlUK.transpose(1, 2), value_BlUK.transpose(1, 2)
        if past is None:
            return key, value
        key, value = cache.update(key, value, self.layer_idx)
        if used_BU is None:
            used_BU = key.new_ones(key.shape[:2], dtype=torch.bool)
            late_BU = None if past.open_BU is None else ~past.open_BU
        if late_BU is not None and bool(late_BU.any()):
            past.fill(key, value, late_BU, self._of_unit)
        past.extend(context.unpack(context_TD), padded)
        past.open_BU = used_BU
        return key, value

    def _used(self, passage: Passage) -> Bool[Tensor, "B U"] | None:
        """Units that any token which runs now uses; None for all."""
        if passage.served_TH is None:
            return None
        served_BH = passage.queries.unpack(passage.served_TH).any(1)
        used_BU: Tensor = served_BH.unflatten(1, (self.shape.kv_heads, -1)).any(-1)
        return used_BU

    def _laid_out(self, passage: Passage, flat: Tensor, units: list[Group]) -> Tensor:
        """Group by group -> (B, l, U, K)."""
        context, (total, width) = passage.context, (self.shape.kv_heads, self.shape.head_dim)
        shape = context.rows, context.length, total, width
        alone = len(units) == 1 and units[0].token_X is None
        if alone and context.is_full and len(units[0].agents) == total:
            return flat.view(shape)
        laid = flat.new_zeros(context.rows * context.length, total, width)
        for group, part in zip(units, parts(flat, self._slices[1], units), strict=True):
            token_X = group.token_X
            if token_X is None:
                token_X = torch.arange(context.tokens, device=flat.device)
            agents = torch.tensor(group.agents, device=flat.device)
            laid[context.places(token_X)[:, None], agents] = part.view(len(token_X), -1, width)
        return laid.view(shape)

    def _of_unit(
        self, hidden_TD: Tensor, rotary: Rotary | None, unit: int
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of one unit for these tokens, (T, K) each."""
        group = [Group([unit], None, len(hidden_TD))]
        key, value = (
            self._read(hidden_TD, which, group).view(len(hidden_TD), -1) for which in (1, 2)
        )
        return (key if rotary is None else rotate(key, *rotary)), value

    def _read(self, x_TD: Tensor, which: int, groups: list[Group]) -> Tensor:
        if not groups:
            return x_TD.new_empty(0)
        weight, bias = self._weight(which)
        return read_through(x_TD, weight, bias, self._slices[which], groups)

    def _weight(self, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight (O, D) and bias of queries, keys or values."""
        module = self._projections[which if len(self._projections) == 3 else 0]
        bias = module.bias
        assert bias is None or isinstance(bias, Tensor)
        return projection_weight(module), bias

    # --- scores and mixing ---------------------------------------------------------------------

    def _mix(
        self,
        passage: Passage,
        flat: Tensor,
        key_BULK: Tensor,
        value_BULK: Tensor,
        rotary: Rotary | None,
        position_bias: Tensor | None,
    ) -> None:
        """Turn queries into what heads read, in place."""
        groups, width = passage.heads, self.shape.head_dim
        start = 0
        if groups[0].token_X is None:
            group = groups[0]
            start = group.tokens * len(group.agents) * width
            mixed_ThK = self._everywhere(
                passage, group, flat[:start], key_BULK, value_BULK, rotary, position_bias
            )
            flat[:start].view(mixed_ThK.shape).copy_(mixed_ThK)
            groups = groups[1:]
        if groups:
            mixed_PK = self._pairs(
                passage, groups, flat[start:], key_BULK, value_BULK, rotary, position_bias
            )
            flat[start:] = mixed_PK.flatten()

    def _everywhere(
        self,
        passage: Passage,
        group: Group,
        flat: Tensor,
        key_BULK: Tensor,
        value_BULK: Tensor,
        rotary: Rotary | None,
        position_bias: Tensor | None,
    ) -> Tensor:
        """Heads that run on all tokens: (T, h, K)."""
        queries = passage.queries
        query_ThK = flat.view(queries.tokens, len(group.agents), self.shape.head_dim)
        if rotary is not None:
            query_ThK = rotate(query_ThK, rotary[0][:, None], rotary[1][:, None])
        share = self.shape.heads // self.shape.kv_heads
        unit_h = [head // share for head in group.agents]
        if unit_h != list(range(self.shape.kv_heads)):
            index = torch.tensor(unit_h, device=flat.device)
            key_BULK, value_BULK = (each.index_select(1, index) for each in (key_BULK, value_BULK))
        seen = passage.visible()
        alone = self.shape.causal and passage.past == 0 and passage.all_seen
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

    def _pairs(
        self,
        passage: Passage,
        groups: list[Group],
        flat: Tensor,
        key_BULK: Tensor,
        value_BULK: Tensor,
        rotary: Rotary | None,
        position_bias: Tensor | None,
    ) -> Tensor:
        """Heads that run on some tokens: (P, K), group by group, token by token."""
        queries, device = passage.queries, flat.device
        query_PK = flat.view(-1, self.shape.head_dim)
        token_P, head_P = _pairs_of(groups, device)
        if rotary is not None:
            query_PK = rotate(query_PK, rotary[0][token_P], rotary[1][token_P])
        share = self.shape.heads // self.shape.kv_heads
        units = sorted({head // share for group in groups for head in group.agents})
        position_U = torch.zeros(self.shape.kv_heads, dtype=torch.long, device=device)
        position_U[units] = torch.arange(len(units), device=device)
        if len(units) < self.shape.kv_heads:
            key_BULK, value_BULK = key_BULK[:, units], value_BULK[:, units]
        padded_P = queries.places(token_P)
        row_P, place_P = padded_P // queries.length, padded_P % queries.length
        line_P = row_P * len(units) + position_U[head_P // share]
        slot_P, slots = _slots(line_P, queries.rows * len(units))
        shape = queries.rows, len(units), slots
        at_P = line_P * slots + slot_P
        query = flat.new_zeros(queries.rows * len(units) * slots, self.shape.head_dim)
        query.index_copy_(0, at_P, query_PK)
        mask = self._pair_mask(passage, row_P, place_P, at_P, shape)
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
        self,
        passage: Passage,
        row_P: Tensor,
        place_P: Tensor,
        at_P: Tensor,
        shape: tuple[int, int, int],
    ) -> Tensor | None:
        """What each slot attends to, (B, U, slots, L) or what spreads to it."""
        seen = passage.visible()
        if seen is None:
            return None
        if seen.shape[1] == 1:
            return seen[:, None]
        own_PL = seen[0][place_P] if len(seen) == 1 else seen[row_P, place_P]
        rows, units, slots = shape
        # Empty slots see everything, so that nothing is divided by zero.
        mask = own_PL.new_ones(rows * units * slots, own_PL.shape[1])
        return mask.index_copy_(0, at_P, own_PL).view(*shape, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions."""
    from transformers.models.llama.modeling_llama import rotate_half

    rotated: Tensor = x * cos + rotate_half(x) * sin
    return rotated


def bias_rows(output: nn.Module, tokens: int, like: Tensor) -> Tensor:
    """What an output projection adds when nobody writes, (T, D), to be added to.

    Args:
        output: the projection, or what stands for it where nobody is left.
        tokens: ``T``.
        like: a tensor of the type and on the device of its inputs.
    """
    bias = output.bias
    if bias is None:
        absent = isinstance(output, BiasOnly)
        width = output.width if absent else projection_weight(output).shape[0]
        return like.new_zeros(tokens, width)
    assert isinstance(bias, Tensor)
    return bias.detach().expand(tokens, -1).clone()


def _present(adapter: Adapter, layer: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heads and key/value heads that the layer's weights hold."""
    shape = adapter.shape
    if adapter.present is None:
        return tuple(range(shape.heads)), tuple(range(shape.kv_heads))
    heads, share = adapter.present[layer][0], shape.heads // shape.kv_heads
    return heads, tuple(sorted({head // share for head in heads}))


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
