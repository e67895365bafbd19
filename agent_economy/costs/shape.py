"""Sizes of a layer, and what its agents are charged."""

from __future__ import annotations

from dataclasses import dataclass

from agent_economy.costs.rates import Rates


@dataclass(frozen=True)
class LayerShape:
    """Sizes of one transformer layer.

    Attributes:
        hidden: model dimension ``D``.
        heads: query heads ``H``.
        kv_heads: key/value heads ``U``; fewer than ``heads`` with grouped-query attention.
        head_dim: ``K``.
        ffn: FFN neurons ``F``.
        ffn_matrices: 2 for a plain FFN, 3 for a gated one (gate, up, down).
        block_size: neurons in a block agent; the last block may be smaller.
        causal: whether a token attends only to itself and to earlier tokens.
        rates: what agents are charged; None for FLOPs.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    ffn_matrices: int
    block_size: int
    causal: bool
    rates: Rates | None = None

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Neurons of each block; the last one takes what does not divide."""
        whole, rest = divmod(self.ffn, self.block_size)
        return (self.block_size,) * whole + ((rest,) if rest else ())

    @property
    def agents(self) -> int:
        """``N``: heads and blocks of the layer."""
        return self.heads + len(self.block_sizes)


def flops_rates(shape: LayerShape) -> Rates:
    """FLOPs: one multiply-add is two of them.

    ``head = 2*D*K + 2*K*D``, ``pair = 4*K``, ``setup = 4*D*K``, a block of ``G`` neurons
    ``2*ffn_matrices*D*G``.
    """
    projections = 4 * shape.hidden * shape.head_dim
    neuron = 2 * shape.ffn_matrices * shape.hidden
    blocks = tuple(neuron * size for size in shape.block_sizes)
    return Rates("flops", projections, 4 * shape.head_dim, projections, blocks)
