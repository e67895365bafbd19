"""One point of the study: a Mesa model over the seed's batches, written down as tidy tables."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import torch

from agent_economy.metrics.attention import attention_spread, mean_attention
from agent_economy.metrics.inequality import gini
from agent_economy.receipt import Receipt
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.utility import Examples
from simulations.model import EconomyModel
from simulations.scarcity.session import Dense, Session

Row = dict[str, Any]


def run_cell(session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
    """Run a cell's batches and, at the showcase supply, the showcase sentence.

    Returns:
        ``metrics``, ``timings``, ``agents`` and ``prices`` of every step; ``examples`` where the
        utility is taken of examples; for the showcase cells also ``allocations`` and
        ``attention``.
    """
    economy = session.economy(cell)
    stream = session.stream(int(cell["seed"]))
    more = {"output_attentions": True} if session.config.detail else {}
    batches = ({**dense.batch, **more} for dense in stream.dense)
    model = EconomyModel(economy, batches, seed_for(int(cell["seed"]), "mesa") % 2**31)
    metrics: list[Row] = []
    timings: list[Row] = []
    agents: list[pd.DataFrame] = []
    prices: list[pd.DataFrame] = []
    examples: list[pd.DataFrame] = []
    if economy.market.plan_YN is not None:
        loss = session.selection_loss(economy.market.plan_YN, int(cell["seed"]))
        metrics.append(_row(0, "selection_loss", loss, "mean loss of a row"))
    for step, dense in enumerate(stream.dense):
        start = time.perf_counter()
        model.step()
        total_ms = (time.perf_counter() - start) * 1e3
        phases = dict(model.receipt.timings_ms)
        phases["forward"] = total_ms - sum(phases.values())
        metrics += _metrics(session, model, dense, step)
        outcome = session.utility.examples(model.output, dense.batch, dense.reference)
        if outcome is not None:
            examples.append(_examples(outcome, stream.example_SB[step], step))
        start = time.perf_counter()
        agents.append(_agents(model, step))
        prices.append(_mean_prices(model.receipt, step))
        phases["recording"] += (time.perf_counter() - start) * 1e3
        timings += [
            {"step": step, "phase": phase, "milliseconds": ms} for phase, ms in phases.items()
        ]
    economy.ledger.check()
    tables = {
        "metrics": pd.DataFrame(metrics),
        "timings": pd.DataFrame(timings),
        "agents": pd.concat(agents, ignore_index=True),
    }
    if examples:
        tables["examples"] = pd.concat(examples, ignore_index=True)
    config = session.config
    if not config.detail:
        return tables | {"prices": pd.concat(prices, ignore_index=True)}
    if cell["seed"] == config.seeds[0] and cell["budget_fraction"] == _showcased(config):
        shown = _showcase(session, model)
        shown["prices"] = pd.concat([*prices, shown["prices"]], ignore_index=True)
        return tables | shown
    return tables | {"prices": pd.concat(prices, ignore_index=True)}


def dense_examples(session: Session) -> dict[str, pd.DataFrame]:
    """The dense model's outcome for every example of every seed, as ``dense``."""
    found = [
        _examples(dense.examples, example_B, step).assign(seed=seed)
        for seed in session.config.seeds
        for step, (dense, example_B) in enumerate(
            zip(session.stream(seed).dense, session.stream(seed).example_SB, strict=True)
        )
        if dense.examples is not None
    ]
    return {"dense": pd.concat(found, ignore_index=True)} if found else {}


def _examples(outcome: Examples, example_B: list[int], step: int) -> pd.DataFrame:
    """One row an example."""
    return pd.DataFrame(
        {
            "step": step,
            "example": example_B,
            "loss": outcome.loss_B.double().numpy(force=True),
            "prediction": outcome.prediction_B.double().numpy(force=True),
            "label": outcome.label_B.double().numpy(force=True),
            "tokens": outcome.tokens_B.double().numpy(force=True),
        }
    )


def _row(step: int, metric: str, value: float, unit: str) -> Row:
    return {"step": step, "metric": metric, "value": float(value), "unit": unit}


def _showcased(config: Any) -> float:
    """The budget of the study nearest the showcase's."""
    return float(min(config.budgets, key=lambda budget: abs(budget - config.showcase_budget)))


def _gates(receipt: Receipt, heads: int) -> list[torch.Tensor]:
    layers = range(len(receipt.clearings))
    return [receipt.allocation_BLN(layer)[..., :heads].float() for layer in layers]


def _metrics(session: Session, model: EconomyModel, dense: Dense, step: int) -> list[Row]:
    """Every value of one step, one row each."""
    receipt, economy = model.receipt, model.economy
    heads = economy.adapter.shape.heads
    welfare, optimal = receipt.welfare, receipt.optimal_welfare or 0.0
    values = {
        "flops_fraction": (receipt.flops_fraction, "of dense agent FLOPs"),
        "spend_flops": (receipt.spend_flops, "FLOPs"),
        "market_flops": (receipt.market_flops, "FLOPs"),
        "supply_flops": (receipt.supply_flops, "FLOPs"),
        "fixed_flops": (receipt.fixed_flops, "FLOPs"),
        "gini_allocation": (float(gini(economy.population.served_A)), "Gini"),
        "gini_wealth": (float(gini(economy.ledger.wallet_A)), "Gini"),
        "price_mean": (float(receipt.price_YBL[:, receipt.mask_BL].mean()), "credits per GFLOP"),
        "income": (float(economy.population.income_A.sum()), "credits"),
    }
    measured = session.utility.measure(model.output, dense.batch, dense.reference)
    name = "utility" if dense.examples is None else "utility_of_batch"
    values = {name: (measured, session.utility.unit), **values}
    if dense.spread is not None:
        attentions = model.output.attentions
        spread = attention_spread(attentions, _gates(receipt, heads), receipt.mask_BL)
        values |= {
            "gini_attention": (spread.gini, "Gini"),
            "gini_attention_dense": (dense.spread.gini, "Gini"),
            "attention_entropy": (spread.entropy, "nats"),
            "attention_entropy_dense": (dense.spread.entropy, "nats"),
        }
    if optimal > 0:  # no market was run where everything fits
        values |= {
            "welfare": (welfare, "credits"),
            "lp_welfare": (optimal, "credits"),
            "efficiency": (welfare / optimal, "of the LP optimum"),
        }
    return [_row(step, metric, value, unit) for metric, (value, unit) in values.items()]


def _agents(model: EconomyModel, step: int) -> pd.DataFrame:
    """Every agent's books after one step."""
    population, receipt = model.economy.population, model.receipt
    layers = range(population.layers)
    tokens_Y = torch.stack([tariff.mask_BL.sum() for tariff in receipt.tariffs])
    tokens_A = tokens_Y.repeat_interleave(population.agents_per_layer)
    flops_A = torch.cat([receipt.agent_flops_BLN(layer).sum((0, 1)) for layer in layers])
    names = {id(policy): policy.name for policy in model.economy.policies}
    policies = [names[id(population.policies[i])] for i in population.policy_A.tolist()]
    return pd.DataFrame(
        {
            "step": step,
            "layer": population.layer_A.numpy(force=True),
            "agent": _index_in_layer(population),
            "kind": _kinds(population),
            "policy_name": policies,
            "wallet_credits": model.economy.ledger.wallet_A.numpy(force=True).copy(),
            "payment_credits": population.payment_A.numpy(force=True).copy(),
            "income_credits": population.income_A.numpy(force=True).copy(),
            "served_fraction": (population.served_A / tokens_A).numpy(force=True),
            "spend_flops": flops_A.numpy(force=True),
            "bankrupt": population.bankrupt_A.numpy(force=True).copy(),
        }
    )


def _index_in_layer(population: Any) -> list[int]:
    return list(range(population.agents_per_layer)) * population.layers


def _kinds(population: Any) -> list[str]:
    return [("head", "block")[kind] for kind in population.kind_A.tolist()]


def _mean_prices(receipt: Receipt, step: int) -> pd.DataFrame:
    """Each layer's mean price over a step's real tokens; row and token are -1."""
    mean_Y = receipt.price_YBL[:, receipt.mask_BL].mean(1)
    return pd.DataFrame(
        {
            "step": step,
            "row": -1,
            "layer": range(len(mean_Y)),
            "token": -1,
            "token_text": "",
            "price_per_gflop": mean_Y.double().numpy(force=True),
        }
    )


def _showcase(session: Session, model: EconomyModel) -> dict[str, pd.DataFrame]:
    """Prices, gates, bids and attention of the showcase sentence, token by token."""
    batch = session.showcase()
    tokens = session.tokens(batch)
    dense = session.dense(batch, judged=False)
    economy, length = model.economy, len(tokens)
    with torch.no_grad(), economy.trying():
        output = economy(**batch, output_attentions=True)
    receipt: Receipt = output.receipt
    price_YL = receipt.price_YBL[:, 0]
    layers, heads = len(price_YL), economy.adapter.shape.heads
    prices, gates = [], []
    for layer in range(layers):
        gate_LN = receipt.allocation_BLN(layer)[0]
        agents = gate_LN.shape[1]
        prices += [
            {
                "step": -1, "row": 0, "layer": layer, "token": token, "token_text": tokens[token],
                "price_per_gflop": float(price_YL[layer, token]),
            }
            for token in range(length)
        ]  # fmt: skip
        gates.append(
            pd.DataFrame(
                {
                    "row": 0,
                    "layer": layer,
                    "agent": torch.arange(agents).repeat_interleave(length).numpy(),
                    "kind": ["head"] * heads * length + ["block"] * (agents - heads) * length,
                    "token": list(range(length)) * agents,
                    "token_text": tokens * agents,
                    "allocation": gate_LN.T.flatten().numpy(force=True),
                    "bid": _bids(economy, layer, gate_LN).T.flatten().numpy(force=True),
                }
            )
        )
    ones = dense.attention[0].new_ones(1, length, heads)
    weighted = _gates(receipt, heads)
    attention = [
        _attention_rows(setting, layer, mean_attention(weights[layer], gate)[0], tokens)
        for setting, weights, gate_of in (
            ("dense", dense.attention, [ones] * layers),
            ("scarce", output.attentions, weighted),
        )
        for layer, gate in enumerate(gate_of)
    ]
    return {
        "prices": pd.DataFrame(prices),
        "allocations": pd.concat(gates, ignore_index=True),
        "attention": pd.concat(attention, ignore_index=True),
    }


def _bids(economy: Any, layer: int, gate_LN: torch.Tensor) -> torch.Tensor:
    """Bids of the showcase sentence; not a number where no market was run and nobody bid."""
    bid_BLN = economy.market.bids.get(layer)
    return torch.full_like(gate_LN, torch.nan) if bid_BLN is None else bid_BLN[0]


def _attention_rows(
    setting: str, layer: int, attention_LL: torch.Tensor, tokens: list[str]
) -> pd.DataFrame:
    length = len(tokens)
    return pd.DataFrame(
        {
            "row": 0,
            "setting": setting,
            "layer": layer,
            "query": torch.arange(length).repeat_interleave(length).numpy(),
            "key": list(range(length)) * length,
            "query_text": [token for token in tokens for _ in tokens],
            "key_text": tokens * length,
            "attention": attention_LL.flatten().numpy(force=True),
        }
    )
