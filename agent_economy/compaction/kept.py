"""Which rows and columns of a layer's weights belong to the agents that stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agent_economy.costs.shape import LayerShape
from agent_economy.errors import EconomyError


@dataclass(frozen=True)
class Kept:
    """What stays of one layer.

    Attributes:
        shape: sizes of the whole layer.
        heads: query heads that stay, ascending.
        blocks: neuron blocks that stay, ascending.
    """

    shape: LayerShape
    heads: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key/value heads that a head which stays reads, ascending."""
        return tuple(sorted({self._kv(head) for head in self.heads}))

    @property
    def kv_of_head(self) -> tuple[int, ...]:
        """For each head that stays, the position of its key/value head among those that stay."""
        position = {kv: index for index, kv in enumerate(self.kv_heads)}
        return tuple(position[self._kv(head)] for head in self.heads)

    def _kv(self, head: int) -> int:
        return head * self.shape.kv_heads // self.shape.heads

    @property
    def head_columns(self) -> Int[Tensor, "W"]:
        """Inputs of the attention's output projection that stay."""
        return _spans([(head * self.shape.head_dim, self.shape.head_dim) for head in self.heads])

    @property
    def neurons(self) -> Int[Tensor, "F"]:
        """Neurons that stay; the layer's last block may be smaller."""
        sizes = self.shape.block_sizes
        return _spans([(block * self.shape.block_size, sizes[block]) for block in self.blocks])

    def projection_rows(self, parts: int) -> list[Int[Tensor, "R"]]:
        """Outputs of the query, key and value projections that stay, one tensor a matrix.

        Args:
            parts: matrices; 3, or 1 where queries, keys and values come out of one, in that order.
        """
        width = self.shape.head_dim
        query = self.head_columns
        key = _spans([(kv * width, width) for kv in self.kv_heads])
        if parts == 3:
            return [query, key, key]
        queries, keys = self.shape.heads * width, self.shape.kv_heads * width
        return [torch.cat((query, key + queries, key + queries + keys))]


def kept_agents(plan_YN: Bool[Tensor, "Y N"], shape: LayerShape, layers: int) -> list[Kept]:
    """What stays of each layer under a static plan.

    Args:
        plan_YN: agents that serve every token; heads first, then neuron blocks.
        shape: sizes of every layer.
        layers: how many there are.

    Raises:
        EconomyError: the plan is not for such a model.
    """
    if plan_YN.shape != (layers, shape.agents) or plan_YN.dtype != torch.bool:
        raise EconomyError(
            f"a static plan is a bool tensor of shape {(layers, shape.agents)} (layers, agents); "
            f"this one is {str(plan_YN.dtype).removeprefix('torch.')} {tuple(plan_YN.shape)}"
        )
    return [
        Kept(
            shape,
            tuple(torch.nonzero(plan_N[: shape.heads]).flatten().tolist()),
            tuple(torch.nonzero(plan_N[shape.heads :]).flatten().tolist()),
        )
        for plan_N in plan_YN.cpu()
    ]


def _spans(spans: list[tuple[int, int]]) -> Tensor:
    """All indices of (start, size) spans."""
    empty = torch.zeros(0, dtype=torch.long)
    return torch.cat([empty, *(torch.arange(start, start + size) for start, size in spans)])
