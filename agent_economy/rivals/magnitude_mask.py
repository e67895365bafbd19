"""Weight magnitude: the agents with the smallest weights leave (Han et al. 2015; Li et al. 2017).

``score_n = |w_n|^2``, the squared norm of all weights that belong to an agent: the query, key,
value and output slices of a head, the input and output slices of a block (of grouped key/value
heads an equal share). Coupled slices count together, as in DepGraph (Fang et al. 2023, whose group
norm is over all of them); biases do not count. Squared norms of agents add up to that of the model,
so the plan of the greatest summed score within supply (``knapsack``) is the one that keeps the
model's weights nearest, in the Frobenius norm, to what they were. It looks at no data.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import Sites, projection_weight
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import in_blocks
from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival
from agent_economy.rivals.knapsack import best_plan


class MagnitudeMask(Rival):
    """Squared weight norms as scores."""

    name = "magnitude_mask"

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading."""
        return best_plan(squared_norms(evidence.adapter), allowance)


@torch.no_grad()
def squared_norms(adapter: Adapter) -> Float[Tensor, "Y N"]:
    """Squared norm of the weights that each agent owns, float64 on the CPU.

    Raises:
        EconomyError: the adapter does not say where its agents' input weights are.
    """
    if not (adapter.projections and adapter.ffn_inputs):
        raise EconomyError(
            f"adapter {adapter.name!r} does not say where agents read; add projections and "
            "ffn_inputs to it (docs/adapters.md)"
        )
    return torch.stack([_layer(adapter, sites) for sites in adapter.sites]).cpu()


def _layer(adapter: Adapter, sites: Sites) -> Float[Tensor, "N"]:
    shape = adapter.shape
    query_W, key_V, value_V = _attention_rows(adapter, sites)
    heads_H = _summed(query_W + _columns(sites.attention_output), shape.head_dim)
    shared_U = _summed(key_V + value_V, shape.head_dim)
    group = shape.heads // shape.kv_heads
    heads_H = heads_H + shared_U.repeat_interleave(group) / group
    neurons_F = _columns(sites.ffn_output)
    for path in adapter.ffn_inputs:
        neurons_F = neurons_F + _rows(sites.layer.get_submodule(path))
    return torch.cat((heads_H, _summed(neurons_F, shape.block_size)))


def _attention_rows(adapter: Adapter, sites: Sites) -> tuple[Tensor, Tensor, Tensor]:
    """Squared norms of the rows of queries, keys and values."""
    found = [_rows(sites.layer.get_submodule(path)) for path in adapter.projections]
    if len(found) == 1:  # one matrix, its outputs in that order
        shape = adapter.shape
        sizes = [heads * shape.head_dim for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
        found = list(found[0].split(sizes))
    query_W, key_V, value_V = found
    return query_W, key_V, value_V


def _rows(module: nn.Module) -> Tensor:
    return projection_weight(module).double().square().sum(1)


def _columns(module: nn.Module) -> Tensor:
    return projection_weight(module).double().square().sum(0)


def _summed(x_W: Tensor, size: int) -> Tensor:
    return in_blocks(x_W, size, 0).sum(1)
