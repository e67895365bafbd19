"""The markets that clearing is timed on, and a call that clears one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariff
from agent_economy.mechanisms import MECHANISMS, Mechanism, State


class Order(NamedTuple):
    """Everything that ``Mechanism.clear`` is given, apart from the state."""

    bid_BLN: Tensor
    tariff: Tariff
    supply_flops_BL: Tensor
    active_N: Tensor
    limit_BN: Tensor

    @property
    def bids(self) -> int:
        """Agents x tokens."""
        return self.bid_BLN.numel()


#: rows and tokens a row at which MiniLM's 144 agents make 10^4, 10^5, 10^6 and 10^7 bids
SIZES = {10**4: (1, 70), 10**5: (4, 174), 10**6: (16, 434), 10**7: (64, 1085)}


def order(rows: int, length: int, layers: int = 6, budget_fraction: float = 0.4) -> Order:
    """Random bids for so many tokens and ``layers`` x 24 agents of MiniLM's costs.

    Wallets never bind. Filled in place: whoever measures memory must not see a larger past.
    """
    shape = LayerShape(384, 12 * layers, 12 * layers, 32, 1536 * layers, 2, 128, causal=False)
    tariff = layer_tariff(shape, torch.ones(rows, length, dtype=torch.bool))
    generator = torch.Generator().manual_seed(0)
    # heavy-tailed, like calibrated valuations
    bid_BLN = torch.rand(rows, length, shape.agents, generator=generator).pow_(4)
    supply_BL = (tariff.dense_flops_BL * budget_fraction).long()
    active_N = torch.ones(shape.agents, dtype=torch.bool)
    return Order(bid_BLN, tariff, supply_BL, active_N, torch.full((rows, shape.agents), 1e9))


def clearer(mechanism: Mechanism, job: Order, times: int = 1) -> Callable[[], None]:
    """Clear the same job ``times`` times, the state carried along."""
    state: State = mechanism.initial_state(
        len(job.active_N), job.tariff.setup_flops_U.shape[0], seed=0
    )

    def run() -> None:
        nonlocal state
        for _ in range(times):
            _, state = mechanism.clear(*job, state)

    return run


def mechanisms() -> dict[str, Mechanism]:
    """Every mechanism of the library in every scope that it clears, as ``name/scope``."""
    return {
        f"{name}/{scope}": member(scope)
        for name, member in MECHANISMS.members().items()
        if member.__module__.startswith("agent_economy.")
        for scope in member.scopes
    }
