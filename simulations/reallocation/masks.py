"""A random static mask: agents drawn by lot that serve every token, at a given spend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agent_economy.costs.tariff import Tariff


def random_mask(tariffs: Sequence[list[Tariff]], spend_flops: int, seed: int) -> Tensor:
    """Agents of the whole model in random order, each taken if it still fits into the spend.

    What is left over is less than the cheapest agent that was left out would cost.

    Args:
        tariffs: of every batch that the mask will serve the price list of each layer.
        spend_flops: what all batches together may cost, set-up fees included.
        seed: of the order.

    Returns:
        Bool (Y, N).
    """
    first, layers = tariffs[0][0], len(tariffs[0])
    group, units = first.group, first.setup_flops_U.shape[0]
    by_layer = list(zip(*tariffs, strict=True))
    serving = [[int(x) for x in sum(t.served_flops_BN.sum(0) for t in each)] for each in by_layer]  # type: ignore[union-attr]
    opening = [[int(x) for x in sum(t.setup_flops_BU.sum(0) for t in each)] for each in by_layer]  # type: ignore[union-attr]
    agents = len(serving[0])
    generator = torch.Generator().manual_seed(seed)
    chosen_YN = torch.zeros(layers, agents, dtype=torch.bool)
    opened: set[tuple[int, int]] = set()
    left = int(spend_flops)
    for place in torch.randperm(layers * agents, generator=generator).tolist():
        layer, agent = divmod(place, agents)
        unit = (layer, agent // group)
        shared = agent < units * group and unit not in opened
        cost = serving[layer][agent] + (opening[layer][unit[1]] if shared else 0)
        if cost <= left:
            left -= cost
            chosen_YN[layer, agent] = True
            if agent < units * group:
                opened.add(unit)
    return chosen_YN
