"""Ways to deal something out among agents: equally, by cost, by value, by lot."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.policies.readout import ReadoutPolicy
from agent_economy.runs.seeds import seed_for
from simulations.laboratory.session import Laboratory

RULES = ("equal", "cost", "value")


def shares(
    session: Laboratory, rule: str, seed: int, *, ahead: bool = False
) -> Float64[Tensor, "A"]:
    """Every agent's share, summing to one.

    Args:
        session: the study.
        rule: ``equal``; ``cost``: by the FLOPs that an agent would use if it served every token;
            ``value``: by what it bids on calibration text.
        seed: whose calibration is read.
        ahead: whether values are those of bids made before the pass.

    Raises:
        EconomyError: rule ``value`` with a policy that has no calibrated values.
    """
    layers, shape = len(session.adapter.sites), session.adapter.shape
    weight_A = torch.ones(layers * shape.agents, dtype=torch.float64)
    if rule == "cost":
        row = torch.ones(1, session.config.max_tokens, dtype=torch.bool)
        tariff = layer_tariff(shape, row)
        cost_N = tariff.served_flops_BN[0].double()
        fee_U = tariff.setup_flops_BU[0].double() / tariff.group
        cost_N[: tariff.fee_agents] += fee_U.repeat_interleave(tariff.group)
        weight_A = cost_N.repeat(layers)
    elif rule == "value":
        policy = session.calibration(seed).policy(session.config.policy, ahead=ahead)
        if not isinstance(policy, ReadoutPolicy):
            raise EconomyError(
                f"rule 'value' needs a policy with calibrated values, not {policy.name!r}; "
                "choose policy = 'taylor' or 'fisher'"
            )
        # The floor is a fixed share of each agent's mean value on calibration text.
        weight_A = policy.floor_YN.double().flatten()
    return weight_A / weight_A.sum()


def pareto_shares(agents: int, alpha: float, seed: int) -> Float64[Tensor, "A"]:
    """Shares drawn from a Pareto distribution, whose Gini coefficient is ``1 / (2 alpha - 1)``.

    The same seed ranks agents alike under every ``alpha``: only the distance between them changes.

    Args:
        agents: how many.
        alpha: tail index, above 1; smaller is more unequal.
        seed: of the lots.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "pareto"))
    # Evenly spread quantiles, dealt out by lot: no luck of the draw in how unequal they are.
    quantile_A = (torch.arange(agents, dtype=torch.float64) + 0.5) / agents
    weight_A = (1 - quantile_A) ** (-1 / alpha)
    weight_A = weight_A[torch.randperm(agents, generator=generator)]
    return weight_A / weight_A.sum()
