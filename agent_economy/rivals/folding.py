"""Real-valued gates become weights: a plan stays 0 or 1, and every executor understands it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.errors import EconomyError


@torch.no_grad()
def fold_scales(adapter: Adapter, scale_YX: Float[Tensor, "Y X"]) -> None:
    """Multiply what agents write by their scales, for good, in the model's own weights.

    A gate multiplies an agent's slice of an output projection's input, so it may as well multiply
    the columns of the weight that this slice meets.

    Args:
        adapter: the model, which is changed.
        scale_YX: one scale for every head, then one for every block (``X = N``) or one for every
            neuron (``X = H + F``).

    Raises:
        EconomyError: the scales are neither, or not finite.
    """
    scale_YX = scale_YX.detach()
    if not scale_YX.isfinite().all():
        raise EconomyError(
            "cannot fold scales that are not numbers; check what they were fitted to"
        )
    for sites, scale_X in zip(adapter.sites, columns_YW(adapter, scale_YX), strict=True):
        heads_W, neurons_F = scale_X
        for site, scale_W in ((sites.attention_output, heads_W), (sites.ffn_output, neurons_F)):
            weight_DW = projection_weight(site)
            weight_DW.mul_(scale_W.to(weight_DW))


def columns_YW(adapter: Adapter, scale_YX: Float[Tensor, "Y X"]) -> list[tuple[Tensor, Tensor]]:
    """Per layer, the scale of every column that heads write through, and of every neuron.

    Raises:
        EconomyError: the shape fits neither blocks nor neurons.
    """
    shape, layers = adapter.shape, len(adapter.sites)
    by_block, by_neuron = (layers, shape.agents), (layers, shape.heads + shape.ffn)
    if scale_YX.shape not in (by_block, by_neuron):
        raise EconomyError(
            f"scales of shape {tuple(scale_YX.shape)}; give {by_block}, one per agent, or "
            f"{by_neuron}, one per head and per neuron"
        )
    heads_YW = scale_YX[:, : shape.heads].repeat_interleave(shape.head_dim, 1)
    neurons_YF = scale_YX[:, shape.heads :]
    if neurons_YF.shape[1] != shape.ffn:
        sizes_G = torch.tensor(shape.block_sizes, device=scale_YX.device)
        neurons_YF = neurons_YF.repeat_interleave(sizes_G, 1)
    return list(zip(heads_YW, neurons_YF, strict=True))
