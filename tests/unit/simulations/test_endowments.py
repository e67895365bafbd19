"""Endowments: shares by hand, one sum of money, the run, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import assert_csv_draws_the_same

from agent_economy.errors import EconomyError
from agent_economy.metrics.inequality import gini
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.endowments import compared
from simulations.endowments import SCENARIO
from simulations.endowments.cell import _endowed
from simulations.endowments.config import EndowmentsConfig
from simulations.laboratory.session import Laboratory
from simulations.laboratory.shares import pareto_shares, shares


@pytest.mark.parametrize("alpha", [1.5, 3.0])
def test_pareto_wallets_are_as_unequal_as_theory_says(alpha: float) -> None:
    share_A = pareto_shares(4000, alpha, 0)
    assert float(share_A.sum()) == pytest.approx(1)
    assert float(gini(share_A)) == pytest.approx(1 / (2 * alpha - 1), abs=0.03)
    assert torch.equal(share_A.argsort(), pareto_shares(4000, 2.0, 0).argsort())
    assert not torch.equal(share_A, pareto_shares(4000, alpha, 1))


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> EndowmentsConfig:
    return EndowmentsConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 4,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 40,
            "mean_credits": 40.0,
            "endowments": ["equal", "cost", "value", "pareto 1.2"],
            "incomes": [
                {"name": "revenue"},
                {"name": "flat", "options": {"credits": 1.0}},
            ],
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def run(config: EndowmentsConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_the_same_money_whoever_has_it(config: EndowmentsConfig) -> None:
    session = Laboratory(config, lambda *args, **fields: None)
    for endowment in config.endowments:
        cell = {"endowment": endowment, "income": "revenue", "seed": 0}
        ledger = _endowed(session, cell).ledger
        agents = len(ledger.wallet_A)
        assert float(ledger.wallet_A.sum()) == pytest.approx(40.0 * agents)
        ledger.check()
    cost_A = shares(session, "cost", 0)
    shape, width = session.adapter.shape, session.config.max_tokens
    head = 4 * shape.hidden * shape.head_dim + 4 * shape.head_dim * width
    head = width * (head + 4 * shape.hidden * shape.head_dim)
    block = width * 4 * shape.hidden * shape.block_sizes[0]
    assert float(cost_A[0] / cost_A[shape.heads]) == pytest.approx(head / block)


def test_money_is_kept_where_income_pays_all_back(run: Run) -> None:
    steps = run.table("endowment_steps")
    kept = steps[steps.income == "revenue"].groupby(["endowment", "seed"]).wallet_credits
    assert (kept.max() / kept.min() - 1).abs().max() < 1e-9
    drained = steps[steps.income == "flat"].groupby(["endowment", "seed", "step"]).wallet_credits
    assert (drained.first().unstack().diff(axis=1).iloc[:, 1:] <= 1e-9).all(axis=None)
    assert (steps.efficiency <= 1 + 1e-6).all()


def test_extra_loss_is_against_equal_wallets_on_the_same_texts(run: Run) -> None:
    found = compared(run.table("endowment_steps")).set_index(["endowment", "income", "measure"])
    for income in ("revenue", "flat"):
        assert found.loc[("equal", income, "extra_loss"), "mean"] == 0
        extra = found.loc[("pareto 1.2", income, "extra_loss"), "mean"]
        losses = found["mean"].xs(income, level="income").xs("loss", level="measure")
        assert extra == pytest.approx(losses["pareto 1.2"] - losses["equal"])
    start = found["mean"].xs("gini_start", level="measure")
    assert (start["equal"] == 0).all() and (start["pareto 1.2"] > 0.3).all()


def test_slopes_and_incomes_by_hand(run: Run) -> None:
    table = run.table("endowment_steps")
    found = compared(table).query("endowment == 'all'").set_index(["income", "measure"])["mean"]
    start = table[table.step == 0].groupby(["income", "seed", "endowment"]).gini_wealth.mean()
    loss = table.groupby(["income", "seed", "endowment"]).loss.mean()
    for income in ("revenue", "flat"):
        slopes = [np.polyfit(start[income, seed], loss[income, seed], 1)[0] / 10 for seed in (0, 1)]
        assert found[income, "slope"] == pytest.approx(np.mean(slopes))
    beyond = loss["flat"].mean() - loss["revenue"].mean()
    assert found["flat", "beyond_revenue"] == pytest.approx(beyond)
    assert ("revenue", "beyond_revenue") not in found


def test_same_seed_same_bytes(run: Run, config: EndowmentsConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, config, tmp_path / "two", False)
    file = "endowment_steps.parquet"
    assert (run.path / file).read_bytes() == (again / file).read_bytes()


@pytest.mark.parametrize("name", ["endowments", "endowments_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"endowments": ["equals"]}, "'equals' is unknown"),
        ({"endowments": ["pareto 1"]}, "ALPHA above 1"),
        ({"incomes": [{"name": "revenu"}]}, "did you mean 'revenue'"),
        ({"endowments": ["equal", "equal"]}, "repeats a value"),
    ],
)
def test_bad_configs_are_one_line(
    config: EndowmentsConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = EndowmentsConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
