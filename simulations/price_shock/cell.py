"""One market's way through a stream whose supply breaks: a Mesa model, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from agent_economy.metrics.inequality import gini
from agent_economy.runs.recording import Recorder
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.laboratory.session import Dense, Laboratory
from simulations.model import EconomyModel
from simulations.price_shock.config import PHASES, Arm, PriceShockConfig

#: An agent that serves less than this share of tokens does not count as trading.
_TRADES = 0.01


def run_cell(session: Laboratory, cell: Cell) -> dict[str, Iterator[pd.DataFrame]]:
    """Run the stream under one schedule.

    Returns:
        ``shock_steps``: one row per step and row of text: the loss of that row, and beside it the
        step's supply, price, welfare and who is in business. ``shock_agents``: one row per phase
        and agent, over the last half of the phase: the share of tokens it served, what it paid and
        earned, its wallet at the end.
    """
    config = session.config
    assert isinstance(config, PriceShockConfig)
    (arm,) = [each for each in config.arms if each.name == cell["arm"]]
    model = _model(session, arm, int(cell["seed"]))
    tallies = {phase: _Tally(model) for phase in PHASES}
    return {
        # In this order: the stream runs while its steps are written.
        "shock_steps": _steps(session, cell, model, tallies),
        "shock_agents": (tally.frame(phase) for phase, tally in tallies.items()),
    }


def _steps(
    session: Laboratory, cell: Cell, model: EconomyModel, tallies: dict[str, _Tally]
) -> Iterator[pd.DataFrame]:
    config, record = session.config, Recorder()
    assert isinstance(config, PriceShockConfig)
    for step, dense in enumerate(session.stream(int(cell["seed"]))):
        # Supply is exogenous: the market learns of it with the batch.
        model.economy.market.budget_fraction = config.budget(str(cell["schedule"]), step)
        model.step()
        if config.late(step):
            tallies[config.phase(step)].add(model)
        record.add(**_step(session, model, dense, step))
        if record.full:
            yield record.take()
    model.economy.ledger.check()
    yield record.take()


def _model(session: Laboratory, arm: Arm, seed: int) -> EconomyModel:
    config = session.config
    assert isinstance(config, PriceShockConfig)
    economy = session.economy(seed, arm.mechanism, budget_fraction=config.supply, wallet=arm.wallet)
    session.calibration(seed).warm_up(economy, config.warm_up)
    economy.market.measure_optimum = True
    batches = (dense.batch for dense in session.stream(seed))
    return EconomyModel(economy, batches, seed_for(seed, "mesa") % 2**31)


class _Tally:
    """What agents did over the last half of a phase."""

    def __init__(self, model: EconomyModel) -> None:
        self.population = model.economy.population
        zero = torch.zeros_like(self.population.served_A)
        self.served_A, self.paid_A, self.earned_A = zero.clone(), zero.clone(), zero.clone()
        self.wallet_A, self.bankrupt_A, self.tokens = zero, zero.bool(), 0

    def add(self, model: EconomyModel) -> None:
        """Count a step."""
        self.served_A += self.population.served_A
        self.paid_A += self.population.payment_A
        self.earned_A += self.population.income_A
        self.wallet_A = model.economy.ledger.wallet_A.clone()
        self.bankrupt_A = self.population.bankrupt_A.clone()
        self.tokens += int(model.receipt.mask_BL.sum())

    def frame(self, phase: str) -> pd.DataFrame:
        """One row per agent."""
        population = self.population
        return pd.DataFrame(
            {
                "phase": phase,
                "layer": population.layer_A.numpy(force=True),
                "agent": list(range(population.agents_per_layer)) * population.layers,
                "kind": [("head", "block")[kind] for kind in population.kind_A.tolist()],
                "served_fraction": (self.served_A / max(self.tokens, 1)).numpy(force=True),
                "payment_credits": self.paid_A.numpy(force=True),
                "income_credits": self.earned_A.numpy(force=True),
                "wallet_credits": self.wallet_A.numpy(force=True),
                "bankrupt": self.bankrupt_A.numpy(force=True),
            }
        )


def _step(session: Laboratory, model: EconomyModel, dense: Dense, step: int) -> dict[str, Any]:
    config, economy, receipt = session.config, model.economy, model.receipt
    assert isinstance(config, PriceShockConfig)
    population = economy.population
    served_A = population.served_A / receipt.mask_BL.sum()
    shared: dict[str, Any] = {
        "step": step,
        "phase": config.phase(step),
        "supply_fraction": economy.market.budget_fraction,
        "spend_fraction": receipt.flops_fraction,
        "price_per_gflop": float(receipt.price_YBL[:, receipt.mask_BL].mean()),
        "welfare_credits": receipt.welfare,
        "optimal_welfare_credits": receipt.optimal_welfare or 0.0,
        "payment_credits": float(population.payment_A.sum()),
        "trading_agents": int((served_A >= _TRADES).sum()),
        "bankrupt_agents": int(population.bankrupt_A.sum()),
        "gini_wealth": float(gini(economy.ledger.wallet_A)),
    }
    loss_B = session.losses(model.output, dense).tolist()
    return {"row": range(len(loss_B)), "loss": loss_B, **shared}
