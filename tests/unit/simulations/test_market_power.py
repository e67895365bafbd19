"""Market power: a market by hand, theory, the run, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from studies import assert_csv_draws_the_same, interrupted_and_resumed

from agent_economy.config import MechanismConfig
from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.market_power import coalitions, learning
from simulations.market_power import SCENARIO
from simulations.market_power.cell import collusion
from simulations.market_power.config import MarketPowerConfig
from simulations.market_power.learner import Learner
from simulations.market_power.session import Session
from simulations.shading.session import Values


@pytest.mark.parametrize(
    ("mechanism", "together", "alone"),
    [
        # Values 10, 6 and 4, two of them served. Truthful: all pay 4, the pair keeps 6 + 2.
        # Shading to half: the bids are 5, 3 and 4; the pair serves 10 at 3 and keeps 7.
        ("uniform_price", (8.0, 7.0), 6.0),
        # Truthful: nothing is left. At half: 10 is served for 5.
        ("first_price", (0.0, 5.0), 0.0),
    ],
)
def test_a_pair_by_hand(mechanism: str, together: tuple[float, float], alone: float) -> None:
    value_LN = torch.tensor([[10.0, 6.0, 4.0]], dtype=torch.float64)
    real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    values = Values(value_LN, Tariff(torch.full((1, 3, 1), 900), nobody_pays, real))
    built = build_mechanism(MechanismConfig(name=mechanism))
    found = collusion(built, values, torch.tensor([0, 1]), [0.5], supply=0.67)
    assert found.group_rent.tolist() == pytest.approx(list(together), abs=1e-6)
    assert found.welfare.tolist() == pytest.approx([16.0, 14.0])
    first = collusion(built, values, torch.tensor([0]), [0.9], supply=0.67)
    assert first.group_rent[0] == pytest.approx(alone, abs=1e-6)


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> MarketPowerConfig:
    return MarketPowerConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 6,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 20,
            "agents": 8,
            "coalitions": [1, 4],
            "tokens": 12,
            "factors": [0.5, 0.8],
            "draws": 4,
            "policy": "fisher",
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def run(config: MarketPowerConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_theory(run: Run) -> None:
    table = run.table("power_collusion")
    truthful = table[table.factor == 1]
    first = truthful[truthful.mechanism == "first_price"]
    assert first.group_rent.abs().max() < 1e-6 * first.group_value.mean()
    assert set(table[table.charge == "by_agent"].mechanism) == {"vcg"}
    total = table.group_rent + table.others_rent + table.revenue
    assert (table.revenue > -1e-6 * table.welfare.mean()).all()
    assert (total - table.welfare).abs().max() < 1e-6 * table.welfare.mean()  # nothing is lost
    # One agent's markets are inside those of four: the same draws.
    welfare = truthful.pivot_table(
        index=["mechanism", "charge", "seed", "draw"], columns="coalition", values="welfare"
    )
    assert (welfare[1] == welfare[4]).all()
    found = coalitions(table).set_index(["mechanism", "charge", "coalition", "measure"])["mean"]
    for size in (1, 4):
        assert found["first_price", "billed", size, "gain"] > 0
        assert found["first_price", "billed", size, "factor"] < 1
    # Alone nobody gains where it pays what its presence costs the others.
    alone = table[(table.charge == "by_agent") & (table.coalition == 1)]
    rent = alone.pivot(index=["seed", "draw"], columns="factor", values="group_rent")
    assert (rent.sub(rent[1.0], axis=0).max(axis=None)) < 1e-6 * alone.group_value.mean()
    assert found["vcg", "by_agent", 1, "gain"] <= 1e-9


def test_learners_bid_less_and_pay_less_at_first_price(run: Run) -> None:
    table = run.table("power_learning")
    truthful, learners = (table[table.bidding == name] for name in ("truthful", "learning"))
    assert (truthful.factor == 1).all() and learners.factor.between(0.25, 1).all()
    first = truthful[truthful.mechanism == "first_price"]
    # Truthful winners keep nothing where they pay their bids.
    assert first.paid_credits.to_numpy() == pytest.approx(first.value_credits.to_numpy(), rel=1e-5)
    start = learners.groupby("mechanism").factor.first()
    assert start.to_numpy() == pytest.approx(0.66, abs=0.05)  # arms are equally likely at first
    found = learning(table).set_index(["mechanism", "measure"])["mean"]
    assert found["first_price", "revenue"] < 0.9 and found["first_price", "rent"] > 0
    late = learners[(learners.mechanism == "first_price") & (learners.step >= 3)]
    late_truthful = first[first.step >= 3]
    by_step = [
        part.groupby(["seed", "step"]).paid_credits.first().mean() for part in (late, late_truthful)
    ]
    assert found["first_price", "revenue"] == pytest.approx(by_step[0] / by_step[1])
    assert len(learning(table, over="parts")) == 3 * 6 * 5  # six steps make six parts


def test_one_arm_is_the_truth(config: MarketPowerConfig) -> None:
    session = Session(config, lambda *args, **fields: None)
    plain = session.economy(0, "first_price", budget_fraction=config.supply)
    learner = Learner(policy=config.policy, factors=[1.0])
    counting = session.economy(0, "first_price", budget_fraction=config.supply)
    (learner.inner,) = counting.policies
    counting.set_policy(learner)
    batch = session.stream(0)[0].batch
    with torch.no_grad():
        outputs = [economy(**batch) for economy in (plain, counting)]
    value, paid = learner.turn()
    assert learner.turn() == (0.0, 0.0)
    assert value == pytest.approx(outputs[1].receipt.welfare, rel=1e-5)
    assert paid == pytest.approx(float(counting.population.payment_A.sum()), rel=1e-6)
    assert learner.expected_factor() == 1


def test_resumed_runs_end_with_the_same_bytes(
    run: Run, config: MarketPowerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.market_power.cell as cell

    again = interrupted_and_resumed(SCENARIO, config, cell, tmp_path / "two", monkeypatch, at=4)
    files = sorted(run.path.glob("power_*.parquet"))
    assert len(files) == 2
    for file in files:
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["market_power", "market_power_learning", "market_power_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanisms": ["vgc"]}, "did you mean 'vcg'"),
        ({"coalitions": [8]}, "nobody to compete"),
        ({"supply": 1.0}, "nobody has power"),
    ],
)
def test_bad_configs_are_one_line(
    config: MarketPowerConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = MarketPowerConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
