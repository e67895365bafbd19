"""A synthetic run folder: the shape of a real study, numbers made up but sane."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

LAYERS, HEADS, BLOCKS, STEPS, SEEDS = 6, 12, 12, 8, (0, 1, 2)
BUDGETS = [round(0.1 * i, 1) for i in range(10, 0, -1)]
MECHANISMS = ["uniform_price", "greedy_density", "posted_price", "token_top_k", "uniform"]
POLICIES = ["taylor", "fisher", "activation_norm", "constant", "random"]
MASKS = ["fisher_mask", "random_mask"]
SENTENCE = (
    "[CLS] the committee post ##pone ##d its decision on the river crossing because the "
    "engineer ##s ' report , which cost $ 40 , 000 , had been lost in the mail ##room . [SEP]"
)
TOKENS = SENTENCE.split()
CONFIG = """\
# agent-economy run scarcity -c config.toml
model = "minilm"
budgets = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
mechanisms = ["uniform_price", "greedy_density", "posted_price", "token_top_k", "uniform"]
policies = ["taylor", "fisher", "activation_norm", "constant", "random"]
seeds = [0, 1, 2]
"""
MANIFEST = {
    "scenario": "scarcity",
    "status": "complete",
    "versions": {"python": "3.12.0", "torch": "2.13.0", "numpy": "2.4.6"},
    "git_commit": "0123456789abcdef",
    "machine": {"system": "Linux", "cpu": "A CPU <fast & small>", "cores": 2, "ram_gib": 8.0},
    "seeds": {"seeds": [0, 1, 2], "cells": [0, 1, 2]},
    "data_hashes": {"text": "abc"},
    "cells": 330,
    "started": "2025-01-01T12:00:00+00:00",
    "resumed": [],
    "ended": "2025-01-01T12:01:30+00:00",
}
Cell = tuple[str, str, str, float, int]
CELL = ["mechanism", "policy", "scope", "budget_fraction", "seed"]
# How much utility each choice keeps when compute is scarce: made up, random bids do worst.
SKILL = {"uniform_price": 1.0, "greedy_density": 0.96, "posted_price": 0.8, "token_top_k": 0.55}
WORTH = {"taylor": 1.0, "fisher": 0.85, "activation_norm": 0.45, "constant": 0.3, "random": 0.2}
WORTH |= {"fisher_mask": 0.9, "random_mask": 0.25}


def make_run(folder: Path, tables: dict[str, pd.DataFrame], config: str = CONFIG) -> Path:
    """Write a complete run folder with these tables."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    return folder


def cells() -> Iterator[Cell]:
    """Every point: no market and masks once per budget, token scope with the lead policy."""
    for scope, mechanism, policy in itertools.product(("sequence", "token"), MECHANISMS, POLICIES):
        if mechanism == "uniform" and policy != "constant":
            continue
        if scope == "token" and policy not in ("taylor", "random", "constant"):
            continue
        for budget, seed in itertools.product(BUDGETS, SEEDS):
            yield mechanism, policy, scope, budget, seed
    for mask, budget, seed in itertools.product(MASKS, BUDGETS, SEEDS):
        yield "static_mask", mask, "", budget, seed


def with_cell(cell: Cell, rows: pd.DataFrame) -> pd.DataFrame:
    for place, (name, value) in enumerate(zip(CELL, cell, strict=True)):
        rows.insert(place, name, value)
    return rows


def metrics_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    mechanism, policy, scope, budget, _ = cell
    keep = SKILL.get(mechanism, 0.5) * WORTH[policy] if mechanism != "uniform" else 0.33
    hardness = np.random.default_rng(99).normal(0, 0.03, STEPS)  # The batches are shared.
    noise = hardness + generator.normal(0, 0.03, STEPS)
    loss = (1 - budget) ** (1.2 + 1.6 * keep) * (0.75 if scope == "sequence" else 0.85)
    utility = np.where(budget == 1.0, 1.0, np.clip(1 - loss + noise * (1 - budget), 0, 1))
    lp = 900 * budget**0.45 * (1 + noise)
    efficiency = {"uniform_price": 0.995, "greedy_density": 0.985, "posted_price": 0.93}
    share = efficiency.get(mechanism, 0.7) - 0.06 * (1 - budget) * generator.random(STEPS)
    share = np.where(budget == 1.0, 1.0, share)
    values = {
        "utility": (utility, "cosine to dense"),
        "flops_fraction": (budget * (1 - 0.02 * generator.random(STEPS)), "1"),
        "welfare": (lp * share, "credits"),
        "lp_welfare": (lp, "credits"),
        "efficiency": (share, "1"),
        "gini_allocation": (0.5 * (1 - budget) + 0 * noise, "1"),
    }
    if mechanism == "static_mask":
        values["selection_loss"] = (1 - budget) * (2 - WORTH[policy]) + 0 * noise, "loss"
    return pd.concat(
        pd.DataFrame({"step": range(STEPS), "metric": name, "value": value, "unit": unit})
        for name, (value, unit) in values.items()
    )


def agents_frame() -> pd.DataFrame:
    index = itertools.product(range(LAYERS), range(HEADS + BLOCKS))
    frame = pd.DataFrame(index, columns=["layer", "agent"])
    return frame.assign(kind=np.where(frame["agent"] < HEADS, "head", "block"))


def agents_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    mechanism, policy, _, budget, _ = cell
    agents, parts = agents_frame(), []
    wealth = np.full(len(agents), 100.0)
    worth = generator.lognormal(0, 0.8, len(agents))
    for step in range(STEPS):
        served = np.clip(budget * worth / worth.mean() + generator.normal(0, 0.05), 0, 1)
        paid = 0 * served if mechanism == "uniform" else 6 * served * generator.random(len(agents))
        income = 0 * served if mechanism == "uniform" else 2.4 * worth
        wealth = np.maximum(wealth - paid + income, 0)
        parts.append(
            agents.assign(
                step=step,
                policy_name=policy,
                wallet_credits=wealth,
                payment_credits=paid,
                income_credits=income,
                served_fraction=served,
                spend_flops=(served * 1e6).astype("int64"),
                bankrupt=wealth <= 0,
            )
        )
    return pd.concat(parts)


def showcase_grid() -> pd.DataFrame:
    tokens = pd.DataFrame({"token": range(len(TOKENS)), "token_text": TOKENS})
    return agents_frame().merge(tokens, how="cross").assign(row=0)


def allocations_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    grid, budget = showcase_grid(), cell[3]
    worth_N = generator.lognormal(0, 0.9, LAYERS * (HEADS + BLOCKS))
    worth_L = generator.lognormal(0, 0.5, len(TOKENS))
    bid = np.outer(worth_N, worth_L).ravel() * generator.lognormal(0, 0.4, len(grid))
    won = bid >= np.quantile(bid, 1 - budget)
    return grid.assign(allocation=won.astype(float), bid=bid)


def prices_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    frame = pd.DataFrame(
        itertools.product(range(LAYERS), range(len(TOKENS))), columns=["layer", "token"]
    )
    rise = np.outer(1.3 ** np.arange(LAYERS), generator.lognormal(0, 0.6, len(TOKENS))).ravel()
    price = (1 - cell[3]) * 4 * rise if cell[2] == "token" else (1 - cell[3]) * 4
    shown = frame.assign(step=0, row=0, token_text=np.array(TOKENS)[frame["token"]])
    mean = pd.DataFrame({"step": range(STEPS), "row": -1, "layer": -1, "token": -1})
    return pd.concat(
        [
            shown.assign(price_per_gflop=price),
            mean.assign(token_text="", price_per_gflop=(1 - cell[3]) * 4),
        ]
    )


def attention_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    n, parts = len(TOKENS), []
    for layer in range(LAYERS):
        near = -np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / (2 + layer)
        logits = near + generator.normal(0, 0.6, (n, n)) + 2.0 * np.isin(np.arange(n), [0, n - 1])
        for setting, heat in (("dense", 1.0), ("scarce", 1 + (1 - cell[3]) * (0.4 + 0.2 * layer))):
            weight = np.exp(logits * heat)
            weight /= weight.sum(axis=1, keepdims=True)
            query, key = np.divmod(np.arange(n * n), n)
            parts.append(
                pd.DataFrame(
                    {
                        "setting": setting,
                        "layer": layer,
                        "query": query,
                        "key": key,
                        "query_text": np.array(TOKENS)[query],
                        "key_text": np.array(TOKENS)[key],
                        "attention": weight.ravel(),
                    }
                )
            )
    return pd.concat(parts)


def timings_of(cell: Cell, generator: np.random.Generator) -> pd.DataFrame:
    phases = {"features": 1.8, "bids": 1.1, "clearing": 3.4, "ledger": 0.7, "recording": 0.9}
    if cell[0] == "posted_price":
        phases["clearing"] = 0.9
    phases["forward"] = 170.0
    steps = pd.DataFrame({"step": range(STEPS)})
    return pd.concat(
        steps.assign(phase=name, milliseconds=ms * generator.lognormal(0, 0.1, STEPS))
        for name, ms in phases.items()
    )


def all_tables() -> dict[str, pd.DataFrame]:
    """Every table of a study, showcase tables for the scarce cells only."""
    generator = np.random.default_rng(7)
    tables: dict[str, list[pd.DataFrame]] = {}
    for cell in cells():
        _, policy, _, budget, seed = cell
        makers: dict[str, Callable] = {"metrics": metrics_of, "timings": timings_of}
        if policy in ("taylor", "constant") and seed == 0 and budget in (1.0, 0.4, 0.1):
            makers["agents"] = agents_of
            if budget != 0.1:
                makers |= {"prices": prices_of, "allocations": allocations_of}
                makers |= {"attention": attention_of} if cell[0] == "uniform_price" else {}
        for name, make in makers.items():
            tables.setdefault(name, []).append(with_cell(cell, make(cell, generator)))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


@pytest.fixture(scope="session")
def synthetic() -> SimpleNamespace:
    """The builder and the shape of what it builds."""
    return SimpleNamespace(
        make_run=make_run,
        config=CONFIG,
        cell=CELL,
        tokens=TOKENS,
        layers=LAYERS,
        heads=HEADS,
        agents=LAYERS * (HEADS + BLOCKS),
        steps=STEPS,
    )


@pytest.fixture(scope="session")
def tables() -> dict[str, pd.DataFrame]:
    return all_tables()


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, tables: dict[str, pd.DataFrame]) -> Path:
    """One complete run; tests that write beside its tables make their own with `make_run`."""
    return make_run(tmp_path_factory.mktemp("runs") / "demo", tables)
