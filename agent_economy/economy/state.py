"""Everything about an economy that lasts between forwards, the model apart, as named tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from agent_economy.economy.economy import Economy


def state_of(economy: Economy) -> dict[str, torch.Tensor]:
    """What lasts: agents, credits, what mechanisms and policies remember, prices, plan, step."""
    state = {f"population.{k}": v for k, v in economy.population.state_dict().items()}
    state |= {f"ledger.{k}": v for k, v in economy.ledger.state_dict().items()}
    for market, kept in enumerate(economy.market.states):
        state |= {f"mechanism.{market}.{k}": v for k, v in kept.items()}
    for layer, price in enumerate(economy.market.prices):
        if price is not None:
            state[f"price.{layer}"] = price
    for index, policy in enumerate(economy.policies):
        state |= {f"policy.{index}.{k}": v for k, v in policy.state_dict().items()}
    if economy.market.plan_YN is not None:
        state["plan_YN"] = economy.market.plan_YN
    state["step"] = torch.tensor(economy.market.step)
    return state


def restore(economy: Economy, state: dict[str, torch.Tensor]) -> None:
    """Take up what ``state_of`` gave; the agents' policies must be the same."""

    def part(prefix: str) -> dict[str, torch.Tensor]:
        size, device = len(prefix), economy.population.device
        return {k[size:]: v.to(device) for k, v in state.items() if k.startswith(prefix)}

    economy.population.load_state_dict(part("population."))
    economy.ledger.load_state_dict(part("ledger."))
    layers = range(economy.population.layers)
    markets = range(len(economy.market.states))
    economy.market.states = [part(f"mechanism.{market}.") for market in markets]
    prices = part("price.")
    economy.market.prices = [prices.get(str(layer)) for layer in layers]
    for index, policy in enumerate(economy.policies):
        policy.restore(part(f"policy.{index}."))
    plan_YN = state.get("plan_YN")
    economy.market.plan_YN = None if plan_YN is None else plan_YN.to(economy.population.device)
    economy.market.step = int(state["step"])
    economy.market.last_course = None
