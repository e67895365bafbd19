"""All layers in one market: agents of every layer side by side, those with set-up fees first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agent_economy.costs.tariff import Tariff


def joint_tariff(tariff: Tariff, layers: int) -> Tariff:
    """The price list of ``layers`` equal layers as one."""
    fee_agents = tariff.fee_agents
    heads_BNL = tariff.token_flops_BNL[:, :fee_agents].repeat(1, layers, 1)
    rest_BNL = tariff.token_flops_BNL[:, fee_agents:].repeat(1, layers, 1)
    return replace(
        tariff,
        token_flops_BNL=torch.cat((heads_BNL, rest_BNL), 1),
        setup_flops_U=tariff.setup_flops_U.repeat(layers),
    )


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
