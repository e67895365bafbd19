"""One market's way through the stream: what it makes, who gets it, how steady it is."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from agent_economy.metrics.inequality import gini
from agent_economy.receipt import Receipt
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.laboratory.session import Dense, Laboratory
from simulations.mechanism_race.config import RaceConfig
from simulations.mechanism_race.entrants import Entrant
from simulations.mechanism_race.fairness import envy_BN
from simulations.model import EconomyModel

_ROUNDING = 1e-5
_PHASES = ("bids", "clearing", "ledger")


def run_cell(session: Laboratory, cell: Cell) -> dict[str, pd.DataFrame]:
    """Run the stream twice: with the bids that all markets get, and with bids of its own.

    Returns:
        ``race``: one row per step and text: its loss under either kind of bids, and beside it the
        step under the same bids: declared value, welfare (and its share of the linear program's
        optimum), revenue, envy, inequality of what agents are served and of their rents, the
        price, and the share of gates that a little noise on bids turns over.
        ``timings``: milliseconds per step of bidding, clearing and the ledger, bids its own.
    """
    config, seed = session.config, int(cell["seed"])
    assert isinstance(config, RaceConfig)
    (market,) = [
        each
        for each in config.markets
        if (each.name, each.scope) == (cell["mechanism"], cell["scope"])
    ]
    same = Entrant(session, market, seed, same_bids=True)
    own = Entrant(session, market, seed, same_bids=False)
    same.economy.market.measure_optimum = True
    batches = (dense.batch for dense in session.stream(seed))
    model = EconomyModel(same.economy, batches, seed_for(seed, "mesa") % 2**31)
    rows, timings = [], []
    for step, dense in enumerate(session.stream(seed)):
        same.see(dense.batch)
        shaken = same.shaken(dense.batch, seed_for(seed, "jitter", step))
        model.step()
        output = own.run(dense.batch)
        own_loss_B = session.losses(output, dense).numpy(force=True)
        rows.append(_row(session, model, dense, shaken).assign(step=step, own_loss=own_loss_B))
        for phase in _PHASES:
            ms = output.receipt.timings_ms.get(phase, 0.0)
            timings.append({"step": step, "phase": phase, "milliseconds": ms})
    same.economy.ledger.check()
    own.economy.ledger.check()
    return {"race": pd.concat(rows, ignore_index=True), "timings": pd.DataFrame(timings)}


def _row(session: Laboratory, model: EconomyModel, dense: Dense, shaken: Receipt) -> pd.DataFrame:
    receipt, economy = model.receipt, model.economy
    heads = economy.adapter.shape.heads
    envy, rents, declared = [], [], 0.0
    for layer, clearing in enumerate(receipt.clearings):
        assert clearing is not None
        bid_BLN = economy.market.bids[layer]
        envy.append(envy_BN(bid_BLN, clearing.allocation_BLN, clearing.payment_BLN, heads).mean())
        served_N = (bid_BLN * clearing.allocation_BLN).double().sum((0, 1))
        rent_N = served_N - clearing.payment_BLN.double().sum((0, 1))
        # What rounding leaves of a rent that is none has a Gini coefficient, too.
        rents.append(torch.where(rent_N > _ROUNDING * served_N, rent_N, 0.0))
        declared += float(bid_BLN.double().sum())
    loss_B = session.losses(model.output, dense).numpy(force=True)
    turned = [
        (one != other).sum() for one, other in zip(_gates(shaken), _gates(receipt), strict=True)
    ]
    pairs = int(receipt.mask_BL.sum()) * economy.population.size
    return pd.DataFrame(
        {
            "row": range(len(loss_B)),
            "loss": loss_B,
            "declared_credits": declared,
            "welfare_share": receipt.welfare / declared,
            "efficiency": receipt.welfare / max(receipt.optimal_welfare or 0.0, 1e-9),
            "revenue_share": float(economy.population.payment_A.sum()) / declared,
            "envy": float(torch.stack(envy).mean()),
            "gini_served": float(gini(economy.population.served_A)),
            "gini_rent": float(gini(torch.cat(rents))),
            "price_per_gflop": float(receipt.price_YBL[:, receipt.mask_BL].mean()),
            "churn": float(torch.stack(turned).sum()) / pairs,
            "spend_fraction": receipt.flops_fraction,
        }
    )


def _gates(receipt: Receipt) -> list[Tensor]:
    """Who serves whom, layer by layer, on real tokens."""
    layers = range(len(receipt.clearings))
    return [(receipt.allocation_BLN(y) > 0) & receipt.mask_BL[..., None] for y in layers]
