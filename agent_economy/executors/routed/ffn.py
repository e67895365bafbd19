"""An FFN's projections for the tokens that each neuron block serves.

What stands between them, activation and gating, works value by value, so neurons travel through it
as flat memory, group by group.
"""

from __future__ import annotations

from torch import Tensor, nn

from agent_economy.adapters.base import projection_weight
from agent_economy.costs.shape import LayerShape
from agent_economy.executors.routed.bias import bias_rows
from agent_economy.executors.routed.passage import Passage
from agent_economy.executors.routed.ragged import Slices, read_through, write_through


class RoutedReading(nn.Module):
    """Stands in for a projection that neurons read through.

    Args:
        replaced: the projection.
        shape: sizes of the layer.
        present: blocks that the projection holds; None for all.
    """

    def __init__(
        self, replaced: nn.Module, shape: LayerShape, present: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self._replaced = (replaced,)
        self.slices = Slices(shape.block_sizes, present=present)
        self.passage: Passage | None = None

    def forward(self, hidden_1TD: Tensor) -> Tensor:
        """(1, T, D) -> neurons of served (token, block) pairs as flat memory."""
        passage, (projection,) = self.passage, self._replaced
        assert passage is not None
        if not passage.blocks:
            return hidden_1TD.new_empty(0)
        bias = projection.bias
        assert bias is None or isinstance(bias, Tensor)
        return read_through(
            hidden_1TD[0],
            projection_weight(projection),
            bias,
            self.slices,
            passage.blocks,
            grouped=passage.ways.grouped,
        )


class RoutedWriting(nn.Module):
    """Stands in for the projection that neurons write through; arguments as before."""

    def __init__(
        self, replaced: nn.Module, shape: LayerShape, present: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self._replaced = (replaced,)
        self.slices = Slices(shape.block_sizes, present=present)
        self.passage: Passage | None = None

    def forward(self, flat: Tensor) -> Tensor:
        """Flat memory -> (1, T, D), the bias included."""
        passage, (projection,) = self.passage, self._replaced
        assert passage is not None
        out_TD = bias_rows(projection, passage.queries.tokens, flat)
        passage.measure(flat, 1, self.slices, passage.blocks)
        if not passage.blocks:
            return out_TD[None]
        write_through(
            out_TD,
            flat,
            projection_weight(projection),
            self.slices,
            passage.blocks,
            grouped=passage.ways.grouped,
        )
        return out_TD[None]
