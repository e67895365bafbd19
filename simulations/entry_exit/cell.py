"""One economy with exit: its way through the stream, and the structure that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from agent_economy import Economy
from agent_economy.agents.population import Population
from agent_economy.config import Named, WalletConfig
from agent_economy.executors.ablation import row_losses
from agent_economy.metrics.inequality import gini
from agent_economy.registry import build
from agent_economy.rivals import RIVALS, Evidence
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.entry_exit.config import EntryExitConfig
from simulations.laboratory.session import Dense, Laboratory
from simulations.laboratory.shares import shares
from simulations.model import EconomyModel

SURVIVORS = "survivors"


class EntryModel(EconomyModel):
    """An economy that lots bring agents back into.

    Args:
        economy: the economy.
        stream: batches.
        seed: of the lots.
        every: steps between entries; 0: nobody comes back.
        last: no entry after so many steps.
        entrants: how many come back.
        credits: what each of them brings.
    """

    def __init__(
        self,
        economy: Economy,
        stream: Iterator[dict[str, Any]],
        seed: int,
        *,
        every: int,
        last: int,
        entrants: int,
        credits: float,
    ) -> None:
        super().__init__(economy, stream, seed)
        self.every, self.last, self.entrants, self.credits = every, last, entrants, credits
        self.lots = torch.Generator().manual_seed(seed)

    def step(self) -> None:
        """One forward; then, now and then, entrants."""
        super().step()
        step = self.economy.market.step
        if self.every and step <= self.last and step % self.every == 0:
            self.enter()

    def enter(self) -> None:
        """Let some who left come back with fresh money."""
        population, ledger = self.economy.population, self.economy.ledger
        gone = population.bankrupt_A.nonzero()[:, 0]
        back = gone[torch.randperm(len(gone), generator=self.lots)[: self.entrants]]
        if len(back):
            population.set_bankrupt(back, False)
            amount_A = torch.zeros_like(ledger.wallet_A)
            amount_A[back] = self.credits
            ledger.grant(amount_A)


def run_cell(session: Laboratory, cell: Cell) -> dict[str, pd.DataFrame]:
    """Trade, then judge who is left.

    Returns:
        ``entry_steps``: one row per step. ``entry_structures``: one row per structure and text
        that nothing was traded on: its loss when the structure's agents serve every token, the
        structure's cost, and its overlap with the survivors. ``entry_agents``: one row per
        structure and agent: whether it is in.
    """
    config, seed = session.config, int(cell["seed"])
    assert isinstance(config, EntryExitConfig)
    stream = session.stream(seed)
    traded, judged = stream[: -config.judge_steps], stream[-config.judge_steps :]
    model = _model(session, cell, traded)
    cost_A = shares(session, "cost", seed)
    population = model.economy.population
    steps = []
    for step, dense in enumerate(traded):
        model.step()
        receipt = model.receipt
        steps.append(
            {
                "step": step,
                "loss": float(session.losses(model.output, dense).mean()),
                "in_business": int(population.active_A.sum()),
                "cost_share": float(cost_A[population.active_A].sum()),
                "price_per_gflop": float(receipt.price_YBL[:, receipt.mask_BL].mean()),
                "spend_fraction": receipt.flops_fraction,
                "gini_wealth": float(gini(model.economy.ledger.wallet_A)),
            }
        )
    model.economy.ledger.check()
    survivors_YN = population.by_layer(population.active_A).clone()
    # Shares add up to one only to rounding.
    cost_share = min(float(cost_A[population.active_A].sum()), 1.0)
    structures = _structures(session, survivors_YN, cost_share, seed)
    frames, agents = [], []
    for name, plan_YN in structures.items():
        agents.append(_members(population, plan_YN).assign(structure=name))
        loss_R = torch.cat([_losses(session, dense, plan_YN) for dense in judged])
        both = int((plan_YN & survivors_YN).sum())
        frames.append(
            pd.DataFrame(
                {
                    "structure": name,
                    "row": range(len(loss_R)),
                    "loss": loss_R.numpy(force=True),
                    "cost_share": float(cost_A[plan_YN.flatten()].sum()),
                    "agents": int(plan_YN.sum()),
                    "heads": int(plan_YN[:, : population.heads].sum()),
                    "overlap": both / max(int((plan_YN | survivors_YN).sum()), 1),
                }
            )
        )
    return {
        "entry_steps": pd.DataFrame(steps),
        "entry_structures": pd.concat(frames, ignore_index=True),
        "entry_agents": pd.concat(agents, ignore_index=True),
    }


def _members(population: Population, plan_YN: Bool[Tensor, "Y N"]) -> pd.DataFrame:
    kinds = [("head", "block")[kind] for kind in population.kind_A.tolist()]
    return pd.DataFrame(
        {
            "layer": population.layer_A.numpy(force=True),
            "index": population.index_A.numpy(force=True),
            "kind": kinds,
            "member": plan_YN.flatten().numpy(force=True),
        }
    )


def _model(session: Laboratory, cell: Cell, traded: list[Dense]) -> EntryModel:
    config, seed = session.config, int(cell["seed"])
    assert isinstance(config, EntryExitConfig)
    (income,) = [each for each in config.incomes if each.name == cell["income"]]
    options = {"threshold_credits": config.threshold_credits, "patience": config.patience}
    wallet = WalletConfig(
        endowment_credits=config.credits,
        income=income,
        bankruptcy=Named(name="exit", options=options),
    )
    economy = session.economy(
        seed, config.mechanism, budget_fraction=float(cell["supply"]), wallet=wallet
    )
    every = config.every if cell["entry"] == "lots" else 0
    return EntryModel(
        economy,
        iter([dense.batch for dense in traded]),
        seed_for(seed, "mesa") % 2**31,
        every=every,
        last=config.last_entry,
        entrants=config.entrants,
        credits=config.credits,
    )


def _structures(
    session: Laboratory, survivors_YN: Bool[Tensor, "Y N"], cost_share: float, seed: int
) -> dict[str, Bool[Tensor, "Y N"]]:
    """The survivors, and what every rival picks at their cost."""
    config, calibration = session.config, session.calibration(seed)
    assert isinstance(config, EntryExitConfig)
    evidence = Evidence(session.adapter, calibration.batches, calibration.trace, session.utility)
    found = {SURVIVORS: survivors_YN}
    for name in config.rivals:
        rival = build(RIVALS, Named(name=name), seed=seed_for(seed, "rival", name))
        found[name] = rival.fit(evidence, cost_share, config.max_tokens)
    return found


def _losses(
    session: Laboratory, dense: Dense, plan_YN: Bool[Tensor, "Y N"]
) -> Float64[Tensor, "B"]:
    """Each text's loss when a structure serves every token."""

    def loss_B(output: Any, batch: dict[str, Any]) -> Tensor:
        return session.losses(output, dense)

    gates = [plan_N.float().expand(*dense.mask_BL.shape, -1) for plan_N in plan_YN]
    return row_losses(session.adapter, dense.batch, loss_B, gates)
