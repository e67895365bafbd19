"""Keys and values of units that any token of a row uses, for that row's real tokens."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.executors.routed.passage import Passage
from agent_economy.executors.routed.projections import KEY, VALUE, Projections
from agent_economy.executors.routed.ragged import Group, everybody, group_agents, parts
from agent_economy.executors.routed.rotary import Rotary, rotate


class Keys:
    """A layer's keys and values.

    Args:
        projections: the layer's.
        layer: under which number a cache keeps them.
    """

    def __init__(self, projections: Projections, layer: int) -> None:
        self.projections, self.layer = projections, layer

    def of(
        self, passage: Passage, context_TD: Tensor, rotary: Rotary | None, cache: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens (B, U, L, K); zeros of units that a row does not use.

        Args:
            passage: the forward under way.
            context_TD: what keys and values of the tokens that run now are computed from.
            rotary: their positions, where the architecture rotates.
            cache: earlier tokens' keys and values, taken up and extended; None without.
        """
        used_BU = _used(passage)
        past = None if cache is None else passage.pasts.of(cache, self.layer)
        late_BU = None
        if past is not None and used_BU is not None and past.open_BU is not None:
            late_BU, used_BU = used_BU & ~past.open_BU, used_BU | past.open_BU
        context = passage.context
        if used_BU is None:
            units = everybody(passage.shape.kv_heads, context.tokens)
        else:
            # A cache must not hold what nobody asked for: it would pass for what was.
            everywhere = passage.ways.units_everywhere if cache is None else 1.0
            units = group_agents(used_BU[context.row_T], everywhere=everywhere)
        key_BlUK, value_BlUK = (
            self._laid_out(passage, self.projections.read(context_TD, which, units), units)
            for which in (KEY, VALUE)
        )
        padded = None
        if rotary is not None:
            padded = context.unpack(rotary[0]), context.unpack(rotary[1])
            key_BlUK = rotate(key_BlUK, padded[0][:, :, None], padded[1][:, :, None])
        key, value = key_BlUK.transpose(1, 2), value_BlUK.transpose(1, 2)
        if past is None:
            return key, value
        key, value = cache.update(key, value, self.layer)
        if used_BU is None:
            used_BU = key.new_ones(key.shape[:2], dtype=torch.bool)
            late_BU = None if past.open_BU is None else ~past.open_BU
        if late_BU is not None and bool(late_BU.any()):
            past.fill(key, value, late_BU, self._of_unit)
        past.extend(context.unpack(context_TD), padded)
        past.open_BU = used_BU
        return key, value

    def _laid_out(self, passage: Passage, flat: Tensor, units: list[Group]) -> Tensor:
        """Group by group -> (B, l, U, K)."""
        context, (total, width) = passage.context, (passage.shape.kv_heads, passage.shape.head_dim)
        shape = context.rows, context.length, total, width
        alone = len(units) == 1 and units[0].token_X is None
        if alone and context.is_full and len(units[0].agents) == total:
            return flat.view(shape)
        laid = flat.new_zeros(context.rows * context.length, total, width)
        for group, part in zip(
            units, parts(flat, self.projections.slices[KEY], units), strict=True
        ):
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
            self.projections.read(hidden_TD, which, group).view(len(hidden_TD), -1)
            for which in (KEY, VALUE)
        )
        return (key if rotary is None else rotate(key, *rotary)), value


def _used(passage: Passage) -> Bool[Tensor, "B U"] | None:
    """Units that any token which runs now uses; None for all."""
    if passage.served_TH is None:
        return None
    served_BH = passage.queries.unpack(passage.served_TH).any(1)
    used_BU: Tensor = served_BH.unflatten(1, (passage.shape.kv_heads, -1)).any(-1)
    return used_BU
