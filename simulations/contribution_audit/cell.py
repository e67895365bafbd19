"""One measure of every agent on every text of a seed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from agent_economy import Economy
from agent_economy.config import Named, WalletConfig
from agent_economy.executors.ablation import row_losses
from agent_economy.metrics.contribution import Game, leave_one_out, ratings, sampled_shapley
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.contribution_audit.config import AuditConfig
from simulations.laboratory.session import Batch, Dense, Laboratory
from simulations.model import EconomyModel

#: Wages by contribution; credits that never bind.
_WALLET = WalletConfig(endowment_credits=1e9, income=Named(name="contribution"))


def run_cell(session: Laboratory, cell: Cell) -> dict[str, pd.DataFrame]:
    """Measure.

    Returns:
        ``audit``: one row per text and agent, one column per quantity (``worth`` by leave-one-out
        or along random orders; ``declared``, ``served``, ``payment``, ``rent`` and ``income`` of a
        market). Leave-one-out also gives ``audit_ratings``, where the package for them is there.
    """
    config = session.config
    assert isinstance(config, AuditConfig)
    seed = int(cell["seed"])
    if cell["study"] == "market":
        return {"audit": _of_market(session, str(cell["policy"]), seed)}
    found = []
    for step, dense in enumerate(session.stream(seed)):
        game, rows, agents = _game(session, dense), len(dense.mask_BL), _agents(session)
        if cell["study"] == "leave_one_out":
            worth_BA = leave_one_out(game, rows, agents)
        else:
            root = seed_for(seed, "orders", int(cell["round"]), step)
            generator = torch.Generator().manual_seed(root)
            worth_BA = sampled_shapley(game, rows, agents, generator)
        found.append(worth_BA)
    worth_RA = torch.cat(found)
    tables = {"audit": _frame(session, {"worth": worth_RA})}
    if cell["study"] == "leave_one_out":
        if find_spec("openskill") is None:
            session.log("no ratings: openskill is not installed", level="warning")
        else:
            rating, spread = ratings(worth_RA)
            frame = _frame(session, {"rating": rating[None], "spread": spread[None]})
            tables["audit_ratings"] = frame.drop(columns="row")
    return tables


def _agents(session: Laboratory) -> int:
    return len(session.adapter.sites) * session.adapter.shape.agents


def _game(session: Laboratory, dense: Dense) -> Game:
    """What coalitions of whole agents are worth: minus the loss of each row."""
    layers, length = len(session.adapter.sites), dense.mask_BL.shape[1]

    def loss_B(output: Any, batch: Batch) -> Tensor:
        return session.losses(output, dense)

    def game(present_BA: Tensor) -> Float64[Tensor, "B"]:
        gate_YB1N = present_BA.float().unflatten(1, (layers, -1)).transpose(0, 1)[:, :, None]
        gates = [gate_B1N.expand(-1, length, -1) for gate_B1N in gate_YB1N]
        return -row_losses(session.adapter, dense.batch, loss_B, gates)

    return game


def _of_market(session: Laboratory, policy: str, seed: int) -> pd.DataFrame:
    """Texts one by one, so that every text has its own prices and wages."""
    config = session.config
    assert isinstance(config, AuditConfig)
    economy = session.economy(
        seed, config.mechanism, budget_fraction=config.supply, wallet=_WALLET, policy=policy
    )
    texts = [
        {key: value[row : row + 1, : int(dense.mask_BL[row].sum())] for key, value in items}
        for dense in session.stream(seed)
        for row in range(len(dense.mask_BL))
        for items in [dense.batch.items()]
    ]
    model = EconomyModel(economy, iter(texts), seed_for(seed, "mesa") % 2**31)
    columns: dict[str, list[Tensor]] = {}
    for _ in texts:
        model.step()
        for name, value_A in _market_columns(economy, model).items():
            columns.setdefault(name, []).append(value_A)
    economy.ledger.check()
    return _frame(session, {name: torch.stack(values) for name, values in columns.items()})


def _market_columns(economy: Economy, model: EconomyModel) -> dict[str, Tensor]:
    """What one text's market made of every agent."""
    declared, rent, population = [], [], economy.population
    for layer, clearing in enumerate(model.receipt.clearings):
        assert clearing is not None
        bid_LN = economy.market.bids[layer][0].double()
        declared.append(bid_LN.sum(0))
        rent.append((bid_LN * clearing.allocation_BLN[0] - clearing.payment_BLN[0]).sum(0))
    return {
        "declared": torch.cat(declared),
        "served": population.served_A / model.receipt.mask_BL.sum(),
        "payment": population.payment_A.clone(),
        "rent": torch.cat(rent),
        "income": population.income_A.clone(),
    }


def _frame(session: Laboratory, columns: dict[str, Tensor]) -> pd.DataFrame:
    """Columns (R, A) as one row per text and agent."""
    rows, agents = next(iter(columns.values())).shape
    shape, layers = session.adapter.shape, len(session.adapter.sites)
    place_A = torch.arange(agents)
    kind = ["head"] * shape.heads + ["block"] * (shape.agents - shape.heads)
    return pd.DataFrame(
        {
            "row": torch.arange(rows).repeat_interleave(agents).numpy(),
            "layer": (place_A // shape.agents).repeat(rows).numpy(),
            "agent": (place_A % shape.agents).repeat(rows).numpy(),
            "kind": kind * layers * rows,
            **{name: value_RA.flatten().double().numpy() for name, value_RA in columns.items()},
        }
    )
