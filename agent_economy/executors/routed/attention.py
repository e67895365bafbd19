"""Attention of served (token, head) pairs only, for every architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from agent_economy.adapters.base import projection_weight
from agent_economy.errors import EconomyError
from agent_economy.executors.routed.bias import bias_rows
from agent_economy.executors.routed.keys import Keys
from agent_economy.executors.routed.mixing import Mixing
from agent_economy.executors.routed.passage import Passage
from agent_economy.executors.routed.projections import QUERY, Projections
from agent_economy.executors.routed.ragged import write_through
from agent_economy.executors.routed.rotary import Rotary

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter


class RoutedAttention(nn.Module):
    """Stands in for a layer's attention and its output projection during one forward.

    Queries, scores and output slices are computed for the pairs that are served, keys and values
    for the units that they use.

    Args:
        adapter: the architecture.
        layer: index.

    Attributes:
        passage: the forward under way, while there is one.
    """

    def __init__(self, adapter: Adapter, layer: int) -> None:
        super().__init__()
        shape, sites = adapter.shape, adapter.sites[layer]
        replaced = sites.layer.get_submodule(adapter.attention)
        self._projections = Projections(adapter, layer)
        # In a tuple, so that it is not this module's own.
        self._output = (sites.attention_output,)
        self.scaling: float = getattr(replaced, "scaling", shape.head_dim**-0.5)
        self._keys = Keys(self._projections, getattr(replaced, "layer_idx", layer))
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
        key_BULK, value_BULK = self._keys.of(passage, context_TD, rotary, cache)
        if passage.heads:
            grouped, heads = passage.ways.grouped, passage.heads
            flat = self._projections.read(x_TD, QUERY, heads, grouped=grouped)
            Mixing(passage, key_BULK, value_BULK, rotary, position_bias, self.scaling).mix(flat)
            self._measure(passage, flat)
            weight, columns = projection_weight(output), self._projections.columns
            write_through(out_TD, flat, weight, columns, heads, grouped=grouped)
        else:
            self._measure(passage, out_TD[:0])
        return out_TD[None], None

    def _measure(self, passage: Passage, flat: Tensor) -> None:
        passage.measure(flat.flatten(), 0, self._projections.columns, passage.heads)
