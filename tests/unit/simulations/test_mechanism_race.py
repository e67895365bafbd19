"""The race: envy by hand, theory, the run, its figures."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import assert_csv_draws_the_same, interrupted_and_resumed

from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.race import by_loss, named, raced
from simulations.mechanism_race import SCENARIO
from simulations.mechanism_race.config import RaceConfig
from simulations.mechanism_race.fairness import envy_BN

NAMES = (
    *("uniform_price", "greedy_density", "first_price", "vcg", "posted_price", "uniform"),
    "fixed_price",
)


def test_envy_by_hand() -> None:
    """Two heads and a block on two tokens; head 1 gets nothing, the block has nobody alike."""
    value = torch.tensor([[[4.0, 3.0, 9.0], [1.0, 5.0, 9.0]]])
    gate = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]])
    paid = torch.tensor([[[2.0, 0.0, 0.0], [1.0, 0.0, 8.0]]])
    # Head 0 keeps 5 - 3. Head 1 keeps nothing and would keep 8 - 3 of its 8. The block is alone.
    assert envy_BN(value, gate, paid, heads=2).tolist() == [[0.0, 5 / 8, 0.0]]
    free = torch.zeros_like(paid)
    assert envy_BN(value, torch.ones_like(gate), free, heads=2).max() == 0


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> RaceConfig:
    return RaceConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 2,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 40,
            "supply": 0.5,
            "warm_up": 2,
            "markets": [
                *({"name": name} for name in NAMES),
                {"name": "uniform_price", "scope": "token"},
            ],
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def run(config: RaceConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_every_mechanism_is_entered() -> None:
    """The default race leaves nobody out."""
    config = RaceConfig.model_validate(tomllib.loads(SCENARIO.default_toml().read_text("utf-8")))
    own = [
        name
        for name, member in MECHANISMS.members().items()
        if member.__module__.startswith("agent_economy.")
    ]
    assert {market.name for market in config.markets} == {*own}


def test_every_market_gets_the_same_bids(run: Run) -> None:
    race = run.table("race")
    declared = race.pivot_table(
        index=["seed", "step"], columns=["mechanism", "scope"], values="declared_credits"
    )
    assert (declared.max(axis=1) == declared.min(axis=1)).all()
    # Bids of its own differ as soon as a layer before was served less.
    assert (race.loss != race.own_loss).any()


def test_theory(run: Run) -> None:
    race = run.table("race")
    budgeted = race[race.mechanism != "fixed_price"]
    assert (budgeted.efficiency <= 1 + 1e-6).all() and (budgeted.spend_fraction <= 0.5).all()
    at = raced(race, run.table("timings")).query("scope == 'sequence'")
    mean = at.set_index(["mechanism", "measure"])["mean"]
    # Set on other texts, it spends about what it should.
    assert mean["fixed_price", "spend_fraction"] == pytest.approx(0.5, abs=0.1)
    assert mean["first_price", "gini_rent"] == pytest.approx(0, abs=1e-6)  # pays all it gets
    assert mean["first_price", "revenue_share"] == pytest.approx(
        mean["first_price", "welfare_share"], rel=1e-4
    )
    assert mean["first_price", "loss"] == pytest.approx(mean["greedy_density", "loss"])
    assert mean["uniform", "revenue_share"] == 0
    assert mean["uniform", "churn"] == 0  # lots do not listen
    assert ("uniform", "volatility") not in mean.index  # nor do they ask a price
    assert mean["greedy_density", "efficiency"] >= mean["uniform_price", "efficiency"] - 0.01
    assert mean["uniform", "efficiency"] < mean["greedy_density", "efficiency"]
    assert mean["uniform_price", "extra_loss"] == 0
    assert mean["uniform", "extra_loss"] == pytest.approx(
        mean["uniform", "loss"] - mean["uniform_price", "loss"]
    )
    assert (at[at.measure == "clearing_ms"]["mean"] > 0).all()
    order = at[at.measure == "loss"].sort_values("mean")["mean"].tolist()
    loss = at[at.measure == "loss"].assign(name=named).set_index("name")["mean"]
    assert loss[by_loss(at)].tolist() == order


def test_a_killed_run_resumes_to_the_same_bytes(
    run: Run, config: RaceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.mechanism_race.cell as cell

    again = interrupted_and_resumed(SCENARIO, config, cell, tmp_path / "two", monkeypatch, at=4)
    assert (run.path / "race.parquet").read_bytes() == (again / "race.parquet").read_bytes()


@pytest.mark.parametrize("name", ["race", "race_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markets": [{"name": "vgc"}]}, "did you mean 'vcg'"),
        ({"markets": [{"name": "vcg"}, {"name": "vcg"}]}, "repeats a mechanism"),
        ({"supply": 1.0}, "nothing is scarce"),
        ({"markets": [{"name": "vcg", "timing": "forward"}]}, "not cleared on the spot"),
    ],
)
def test_bad_configs_are_one_line(
    config: RaceConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = RaceConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
