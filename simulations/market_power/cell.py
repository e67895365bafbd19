"""Coalitions in single markets, and agents that learn how much of their value to bid."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from agent_economy.config import MechanismConfig
from agent_economy.mechanisms import Mechanism
from agent_economy.members import build_mechanism
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.market_power.config import MarketPowerConfig
from simulations.market_power.learner import Learner
from simulations.market_power.session import Session
from simulations.model import EconomyModel
from simulations.shading.cell import cleared, pivot_rent_B
from simulations.shading.session import Values

TRUTHFUL, LEARNING = "truthful", "learning"
BILLED, BY_AGENT = "billed", "by_agent"


def run_cell(session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
    """Measure.

    Returns:
        ``power_collusion``: one row per market, charge and factor (1 is truthful): rents of the
        group and of the others, and what is served, all at true values. ``power_learning``: one
        row per step and text, of learners and of truthful agents on the same texts: the loss of
        the text, and beside it what the step's agents were served at true values and paid.
    """
    if cell["study"] == "learning":
        return {"power_learning": _learning(session, cell)}
    config, size, seed = session.config, int(cell["coalition"]), int(cell["seed"])
    assert isinstance(config, MarketPowerConfig)
    mechanism = build_mechanism(MechanismConfig(name=str(cell["mechanism"])))
    frames = []
    for draw in range(config.draws):
        # The same markets for every mechanism and every coalition.
        root = seed_for(seed, "market", config.market, draw)
        generator = torch.Generator().manual_seed(root)
        values = session.markets.market(config.market, config.agents, seed, generator)
        # Coalitions are nested: the larger one holds the smaller.
        members = torch.randperm(config.agents, generator=generator)[:size]
        found = collusion(mechanism, values, members, config.factors, config.supply)
        frames.append(found.assign(draw=draw))
    return {"power_collusion": pd.concat(frames, ignore_index=True)}


def collusion(
    mechanism: Mechanism, values: Values, members: Tensor, factors: list[float], supply: float
) -> pd.DataFrame:
    """One market, truthful and with a group that multiplies all its bids by a factor.

    Where the mechanism is truthful there are two charges: ``billed``, what it asks, and
    ``by_agent``, what each agent's presence as a whole costs the others as they bid (Clarke 1971).

    Args:
        mechanism: who allocates and charges. One that learns has seen the truthful market before.
        values: the market.
        members: the group.
        factors: what to try, beside 1.
        supply: as a share of what serving everybody would take.
    """
    truth_LN = values.value_LN
    agents, tried = truth_LN.shape[1], [1.0, *factors]
    factor_FN = torch.ones(len(tried), agents, dtype=torch.float64)
    factor_FN[:, members] = torch.tensor(tried, dtype=torch.float64)[:, None]
    bid_FLN = truth_LN * factor_FN[:, None]
    state = mechanism.initial_state(agents, len(values.tariff.setup_flops_U), 0)
    _, state = cleared(mechanism, values.tariff, truth_LN[None], supply, state)
    clearing, _ = cleared(mechanism, values.tariff, bid_FLN, supply, state)
    served_FN = (clearing.allocation_BLN * truth_LN).double().sum(1)
    rents = {BILLED: served_FN - clearing.payment_BLN.double().sum(1)}
    if mechanism.guarantees.truthful:
        pivots = []
        for agent in range(agents):
            absent, _ = cleared(mechanism, values.tariff, bid_FLN, supply, state, absent=agent)
            own_L = truth_LN[:, agent]
            pivots.append(pivot_rent_B(clearing, bid_FLN, own_L, agent, absent))
        rents[BY_AGENT] = torch.stack(pivots, -1)
    group_N = torch.zeros(agents, dtype=torch.bool)
    group_N[members] = True
    frames = [
        pd.DataFrame(
            {
                "charge": charge,
                "factor": tried,
                "group_rent": rent_FN[:, group_N].sum(1).numpy(),
                "others_rent": rent_FN[:, ~group_N].sum(1).numpy(),
                "welfare": served_FN.sum(1).numpy(),
                "revenue": (served_FN - rent_FN).sum(1).numpy(),
                "group_value": served_FN[0, group_N].sum().item(),
            }
        )
        for charge, rent_FN in rents.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _learning(session: Session, cell: Cell) -> pd.DataFrame:
    """Every agent a bandit over factors, against every agent truthful."""
    config, seed, name = session.config, int(cell["seed"]), str(cell["mechanism"])
    assert isinstance(config, MarketPowerConfig)
    frames = []
    for bidding, arms in ((TRUTHFUL, [1.0]), (LEARNING, config.arms)):
        economy = session.economy(seed, name, budget_fraction=config.supply)
        root = seed_for(seed, "bandit", name)
        learner = Learner(seed=root, policy=config.policy, factors=arms, gamma=config.gamma)
        (learner.inner,) = economy.policies
        economy.set_policy(learner)
        batches = (dense.batch for dense in session.stream(seed))
        model = EconomyModel(economy, batches, seed_for(seed, "mesa") % 2**31)
        for step, dense in enumerate(session.stream(seed)):
            model.step()
            loss_B = session.losses(model.output, dense).numpy(force=True)
            value, paid = learner.turn()
            shared = {
                "bidding": bidding,
                "step": step,
                "factor": learner.expected_factor(),
                "value_credits": value,
                "paid_credits": paid,
                "price_per_gflop": float(model.receipt.price_YBL[:, dense.mask_BL].mean()),
            }
            frames.append(pd.DataFrame({"row": range(len(loss_B)), "loss": loss_B, **shared}))
        economy.ledger.check()
    return pd.concat(frames, ignore_index=True)
