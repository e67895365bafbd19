"""All layers in one market: agents of every layer side by side, those with set-up fees first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agent_economy.costs.tariff import Tariff


def joint_tariff(tariffs: list[Tariff]) -> Tariff:
    """The price lists of all layers as one.

    Where layers differ in what is read of them, what an agent cannot serve costs 0.

    Args:
        tariffs: of each layer, for the same real tokens.
    """
    first, fee_agents = tariffs[0], tariffs[0].fee_agents
    setup_U = torch.cat([each.setup_flops_U for each in tariffs])
    if all(each is first for each in tariffs):
        flops_BNL = _side_by_side([each.token_flops_BNL for each in tariffs], fee_agents)
        return replace(first, token_flops_BNL=flops_BNL, setup_flops_U=setup_U)
    flops_BNL = _side_by_side(
        [each.token_flops_BNL * each.mask_BL[:, None] for each in tariffs], fee_agents
    )
    agents = first.token_flops_BNL.shape[1]
    narrow = [torch.full((agents,), each.patchy, device=setup_U.device) for each in tariffs]
    return Tariff(
        flops_BNL,
        setup_U,
        first.real_BL,
        first.group,
        context_BL=first.real_BL,
        narrow_N=stack(narrow, fee_agents),
    )


def _side_by_side(parts: list[Tensor], fee_agents: int) -> Tensor:
    """Layers' tensors (B, N, L) in the order of the joint price list."""
    heads = [part[:, :fee_agents] for part in parts]
    return torch.cat(heads + [part[:, fee_agents:] for part in parts], 1)


def stack(parts: list[Tensor], fee_agents: int) -> Tensor:
    """Layers' tensors (..., N) side by side, in the order of the joint price list."""
    heads = [part[..., :fee_agents] for part in parts]
    rest = [part[..., fee_agents:] for part in parts]
    return torch.cat(heads + rest, -1)


def unstack(x: Tensor, layers: int, fee_agents: int) -> list[Tensor]:
    """The inverse of ``stack``; what is the same for all agents is given to every layer."""
    if x.shape[-1] == 1:
        return [x] * layers
    heads, rest = x.split([layers * fee_agents, x.shape[-1] - layers * fee_agents], -1)
    return [
        torch.cat(pair, -1)
        for pair in zip(heads.chunk(layers, -1), rest.chunk(layers, -1), strict=True)
    ]
