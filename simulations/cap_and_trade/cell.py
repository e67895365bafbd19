"""One way to deal out permits: a Mesa model over the stream, its contracts, its network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agent_economy import Economy
from agent_economy.config import MechanismConfig, Named, WalletConfig
from agent_economy.errors import EconomyError
from agent_economy.metrics.inequality import gini
from agent_economy.metrics.network import centrality
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.cap_and_trade.config import CapAndTradeConfig
from simulations.cap_and_trade.network import measured
from simulations.cap_and_trade.permits import Contracts, PermitSettlement, contracts, used_flops
from simulations.laboratory.session import Laboratory
from simulations.laboratory.shares import shares
from simulations.model import EconomyModel

#: All layers trade in one market, so that every agent may sell to every other.
_MARKET = MechanismConfig(name="uniform_price", timing="forward")
_RICH_CREDITS = 1e9


class PermitModel(EconomyModel):
    """An economy whose agents hold permits and pay each other for those they lack.

    Args:
        economy: the economy.
        stream: batches.
        seed: of lots.
        share_A: of all permits, agent by agent.
        matching: see ``contracts``.
    """

    def __init__(
        self, economy: Economy, stream: Any, seed: int, share_A: Tensor, matching: Any
    ) -> None:
        super().__init__(economy, stream, seed)
        old = economy.market.settlement
        self.settlement = PermitSettlement(old.ledger, old.income, old.bankruptcy)
        economy.market.settlement = self.settlement
        self.share_A, self.matching = share_A, matching
        self.lots = torch.Generator().manual_seed(seed)
        self.contracts: Contracts

    def step(self) -> None:
        """One forward, then its contracts."""
        super().step()
        self.contracts = contracts(self.receipt, self.share_A, self.matching, self.lots)
        self.settlement.exchange(self.contracts.credits_AA)


def checked(session: Laboratory) -> Laboratory:
    """A session whose model can trade permits.

    Raises:
        EconomyError: several heads share keys and values, so that no head owns their cost; or the
            model is a decoder, whose market may not look ahead.
    """
    shape = session.adapter.shape
    if shape.kv_heads < shape.heads or shape.causal:
        raise EconomyError(
            f"model {session.config.model!r} is a decoder or shares keys and values between heads; "
            "permits are traded by agents that own all they use: choose an encoder"
        )
    return session


def run_cell(session: Laboratory, cell: Cell) -> dict[str, pd.DataFrame]:
    """Run the stream under one rule.

    Returns:
        ``permit_steps``: one row per step and text; ``permit_agents``: one per agent, over the
        whole stream; with permits also ``permit_flows``, who paid whom how much in each window,
        and ``permit_network``, the numbers of each window's network.
    """
    config, rule, seed = session.config, str(cell["rule"]), int(cell["seed"])
    assert isinstance(config, CapAndTradeConfig)
    model = _model(session, cell)
    agents = model.economy.population.size
    flow_WAA = torch.zeros(config.windows, agents, agents, dtype=torch.float64)
    sold_A = torch.zeros(agents, dtype=torch.float64)
    bought_A, used_A = sold_A.clone(), sold_A.clone()
    steps = []
    for step, dense in enumerate(session.stream(seed)):
        model.step()
        row = _step(model, step)
        used_A += used_flops(model.receipt).sum(0)
        if isinstance(model, PermitModel):
            window = step * config.windows // config.steps
            flow_WAA[window] += model.contracts.credits_AA
            sold_A += model.contracts.flops_AA.sum(1)
            bought_A += model.contracts.flops_AA.sum(0)
            traded = float(model.contracts.flops_AA.sum())
            row |= {
                "traded_share": traded / max(model.receipt.supply_flops, 1),
                "price_per_gflop": float(model.contracts.price_B.mean()),
            }
        loss_B = session.losses(model.output, dense).numpy(force=True)
        steps.append(pd.DataFrame({"row": range(len(loss_B)), "loss": loss_B, **row}))
    model.economy.ledger.check()
    tables = {"permit_steps": pd.concat(steps, ignore_index=True)}
    tables["permit_agents"] = _agents(model, flow_WAA, used_A, sold_A, bought_A)
    if rule == "auction":
        return tables
    draws = seed_for(seed, "triads")
    numbers = [
        pd.DataFrame(list(measured(flow.numpy(), config.samples, draws))).assign(window=window)
        for window, flow in enumerate(flow_WAA)
    ]
    tables["permit_network"] = pd.concat(numbers, ignore_index=True)
    tables["permit_flows"] = _flows(flow_WAA.numpy())
    return tables


def _model(session: Laboratory, cell: Cell) -> EconomyModel:
    config, rule, seed = session.config, str(cell["rule"]), int(cell["seed"])
    assert isinstance(config, CapAndTradeConfig)
    credits = config.thin_credits if cell["purse"] == "thin" else _RICH_CREDITS
    wallet = WalletConfig(endowment_credits=credits, income=Named(name="revenue"))
    economy = session.economy(seed, _MARKET, budget_fraction=config.supply, wallet=wallet)
    batches: Any = iter([dense.batch for dense in session.stream(seed)])
    draws = seed_for(seed, "mesa") % 2**31
    if rule == "auction":
        return EconomyModel(economy, batches, draws)
    return PermitModel(
        economy, batches, draws, shares(session, rule, seed, ahead=True), config.matching
    )


def _step(model: EconomyModel, step: int) -> dict[str, Any]:
    receipt, economy = model.receipt, model.economy
    return {
        "step": step,
        "spend_fraction": receipt.flops_fraction,
        "welfare_credits": receipt.welfare,
        "payment_credits": float(economy.population.payment_A.sum()),
        "gini_wealth": float(gini(economy.ledger.wallet_A)),
        "traded_share": 0.0,
        "price_per_gflop": float(receipt.price_YBL[:, receipt.mask_BL].mean()),
    }


def _agents(
    model: EconomyModel, flow_WAA: Tensor, used_A: Tensor, sold_A: Tensor, bought_A: Tensor
) -> pd.DataFrame:
    population = model.economy.population
    central = centrality(flow_WAA.sum(0).numpy())
    return pd.DataFrame(
        {
            "layer": population.layer_A.numpy(),
            "agent": list(range(population.agents_per_layer)) * population.layers,
            "kind": [("head", "block")[kind] for kind in population.kind_A.tolist()],
            "used_gflops": used_A.numpy() / 1e9,
            "sold_gflops": sold_A.numpy() / 1e9,
            "bought_gflops": bought_A.numpy() / 1e9,
            "wallet_credits": model.economy.ledger.wallet_A.numpy().copy(),
            "paid_credits": central["paid"],
            "received_credits": central["received"],
            "partners": central["partners"],
            "pagerank": central["pagerank"],
        }
    )


def _flows(flow_WAA: np.ndarray) -> pd.DataFrame:
    """Every payment above nothing: agents by their place in the population."""
    window, payer, payee = np.nonzero(flow_WAA)
    credits = flow_WAA[window, payer, payee]
    return pd.DataFrame({"window": window, "payer": payer, "payee": payee, "credits": credits})
