"""Queries, keys and values of some heads for some tokens, from the model's own weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from agent_economy.adapters.base import projection_weight
from agent_economy.executors.routed.ragged import Group, Slices, read_through

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter

QUERY, KEY, VALUE = 0, 1, 2


class Projections:
    """A layer's projections, separate or fused into one matrix.

    No module, so that what it reads stays the model's own.

    Args:
        adapter: the architecture.
        layer: index.

    Attributes:
        slices: which rows are whose, of queries, keys and values.
        columns: which inputs of the output projection are whose.
    """

    def __init__(self, adapter: Adapter, layer: int) -> None:
        shape, sites = adapter.shape, adapter.sites[layer]
        present_H, present_U = _present(adapter, layer)
        self._modules = [
            sites.layer.get_submodule(p) for p in (adapter.projections if present_H else ())
        ]
        fused = len(adapter.projections) == 1
        heads, units = len(present_H) * shape.head_dim, len(present_U) * shape.head_dim
        offsets = (0, heads, heads + units) if fused else (0, 0, 0)
        width_H, width_U = (shape.head_dim,) * shape.heads, (shape.head_dim,) * shape.kv_heads
        self.slices = (
            Slices(width_H, offsets[0], present_H),
            Slices(width_U, offsets[1], present_U),
            Slices(width_U, offsets[2], present_U),
        )
        self.columns = Slices(width_H, 0, present_H)

    def read(
        self, x_TD: Tensor, which: int, groups: list[Group], *, grouped: bool = False
    ) -> Tensor:
        """Queries, keys or values of the groups, one after the other in flat memory."""
        if not groups:
            return x_TD.new_empty(0)
        module = self._modules[which if len(self._modules) == 3 else 0]
        bias = module.bias
        assert bias is None or isinstance(bias, Tensor)
        weight = projection_weight(module)
        return read_through(x_TD, weight, bias, self.slices[which], groups, grouped=grouped)


def _present(adapter: Adapter, layer: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heads and key/value heads that the layer's weights hold."""
    shape = adapter.shape
    if adapter.present is None:
        return tuple(range(shape.heads)), tuple(range(shape.kv_heads))
    heads, share = adapter.present[layer][0], shape.heads // shape.kv_heads
    return heads, tuple(sorted({head // share for head in heads}))
