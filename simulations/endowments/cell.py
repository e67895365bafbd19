"""One way to deal out wallets: a Mesa model over the stream."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from agent_economy import Economy
from agent_economy.config import WalletConfig
from agent_economy.metrics.inequality import gini
from agent_economy.runs.recording import Recorder
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.endowments.config import EndowmentsConfig, pareto_index
from simulations.laboratory.session import Laboratory
from simulations.laboratory.shares import pareto_shares, shares
from simulations.model import EconomyModel


def run_cell(session: Laboratory, cell: Cell) -> dict[str, Iterator[pd.DataFrame]]:
    """Run the stream.

    Returns:
        ``endowment_steps``: one row per step and text, the state of the economy beside the text's
        loss; ``gini_wealth`` is that of wallets before the step, ``gini_served`` of tokens served.
        It comes in pieces: however long the stream, memory holds a few hundred rows of it.
    """
    return {"endowment_steps": _steps(session, cell)}


def _steps(session: Laboratory, cell: Cell) -> Iterator[pd.DataFrame]:
    config, seed, record = session.config, int(cell["seed"]), Recorder()
    assert isinstance(config, EndowmentsConfig)
    economy = _endowed(session, cell)
    economy.market.measure_optimum = True
    batches = (dense.batch for dense in session.stream(seed))
    model = EconomyModel(economy, batches, seed_for(seed, "mesa") % 2**31)
    for step, dense in enumerate(session.stream(seed)):
        before = float(gini(economy.ledger.wallet_A))
        model.step()
        receipt, population = model.receipt, economy.population
        loss_B = session.losses(model.output, dense).tolist()
        record.add(
            step=step,
            row=range(len(loss_B)),
            loss=loss_B,
            gini_wealth=before,
            gini_served=float(gini(population.served_A)),
            price_per_gflop=float(receipt.price_YBL[:, receipt.mask_BL].mean()),
            efficiency=receipt.welfare / max(receipt.optimal_welfare or 0.0, 1e-9),
            payment_credits=float(population.payment_A.sum()),
            wallet_credits=float(economy.ledger.wallet_A.sum()),
            spend_fraction=receipt.flops_fraction,
        )
        if record.full:
            yield record.take()
    economy.ledger.check()
    yield record.take()


def _endowed(session: Laboratory, cell: Cell) -> Economy:
    """An economy whose books open with the cell's wallets."""
    config, seed, endowment = session.config, int(cell["seed"]), str(cell["endowment"])
    assert isinstance(config, EndowmentsConfig)
    (income,) = [each for each in config.incomes if each.name == cell["income"]]
    wallet = WalletConfig(endowment_credits=config.mean_credits, income=income)
    economy = session.economy(seed, config.mechanism, budget_fraction=config.supply, wallet=wallet)
    agents, alpha = economy.population.size, pareto_index(endowment)
    if alpha is None:
        share_A = shares(session, endowment, seed)
    else:
        share_A = pareto_shares(agents, alpha, seed)
    ledger = economy.ledger
    ledger.endowment_A.copy_(share_A * (config.mean_credits * agents))
    ledger.money_supply = float(ledger.endowment_A.sum())
    ledger.open()
    return economy
