"""The price shock: settling by hand, theory, the run, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import assert_csv_draws_the_same, interrupted_and_resumed

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.price_shock import by_step, settled, verdicts
from simulations.price_shock import SCENARIO
from simulations.price_shock.config import PriceShockConfig

FIGURES_HERE = ("price_shock", "price_shock_table")


def test_settling_by_hand() -> None:
    end = np.log([2.0, 1.2, 1.05, 1.0, 1.0, 1.0])
    assert settled(end) == 2  # 1.2 is more than a tenth away, 1.05 is not
    assert settled(np.zeros(5)) == 0
    left_again = np.log([1.0] * 6 + [1.5, 1.0, 1.0])
    assert settled(left_again) == 7
    assert settled(np.array([0.0, -np.inf, 0.0])) == 3  # a market that died has no price


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> PriceShockConfig:
    return PriceShockConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 9,
            "shock_step": 3,
            "recovery_step": 6,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 40,
            "seeds": [0, 1],
            "arms": [
                {"name": "clairvoyant", "mechanism": "greedy_density"},
                {"name": "posted", "mechanism": "posted_price"},
                {
                    "name": "thin",
                    "wallet": {
                        "endowment_credits": 60.0,
                        "income": {"name": "revenue"},
                        "bankruptcy": {
                            "name": "exit",
                            "options": {"threshold_credits": 30.0, "patience": 2},
                        },
                    },
                },
            ],
        }
    )


@pytest.fixture(scope="module")
def run(config: PriceShockConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_supply_breaks_when_told(run: Run) -> None:
    steps = run.table("shock_steps")
    shocked = steps[steps.schedule == "shock"].groupby("step").supply_fraction.unique()
    assert [float(x[0]) for x in shocked] == [0.8] * 3 + [0.3] * 3 + [0.8] * 3
    assert (steps[steps.schedule == "steady"].supply_fraction == 0.8).all()
    assert (steps.spend_fraction <= steps.supply_fraction).all()


def test_schedules_agree_until_the_shock(run: Run) -> None:
    steps = by_step(run.table("shock_steps"))
    before = steps[steps.step < 3].pivot_table(
        index=["arm", "seed", "step"], columns="schedule", values=["loss", "price_per_gflop"]
    )
    assert (before["loss"]["shock"] == before["loss"]["steady"]).all()
    assert (before["price_per_gflop"]["shock"] == before["price_per_gflop"]["steady"]).all()


def test_a_market_without_memory_forgets(run: Run) -> None:
    """Rich wallets and a clearing of each batch: after the shock nothing is left of it."""
    found = verdicts(by_step(run.table("shock_steps")), run.table("shock_agents"))
    at = found.set_index(["arm", "measure"])["mean"]
    for measure in ("extra_during", "extra_after", "hysteresis", "settles_shock", "stayed_out"):
        assert at["clairvoyant", measure] == 0
    after = run.table("shock_steps").query("step >= 6 and arm == 'posted'")
    price = after.groupby(["schedule", "step"]).price_per_gflop.mean().unstack(0)
    assert (price.shock > price.steady).iloc[0]  # a posted price still remembers it


def test_short_supply_costs(run: Run) -> None:
    steps = by_step(run.table("shock_steps"))
    during = steps[(steps.phase == "during") & (steps.arm == "clairvoyant")]
    loss = during.groupby("schedule").loss.mean()
    assert loss["shock"] > loss["steady"]
    efficiency = during.welfare_credits / during.optimal_welfare_credits
    assert efficiency.between(0.8, 1 + 1e-6).all()


def test_exit_is_for_good(run: Run) -> None:
    thin = run.table("shock_steps").query("arm == 'thin'")
    out = thin.groupby(["schedule", "seed", "step"]).bankrupt_agents.first().unstack()
    assert (out.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None) and out.max(axis=None) > 0
    others = run.table("shock_steps").query("arm != 'thin'")
    assert (others.bankrupt_agents == 0).all()


def test_resumed_runs_end_with_the_same_bytes(
    run: Run, config: PriceShockConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.price_shock.cell as cell

    again = interrupted_and_resumed(SCENARIO, config, cell, tmp_path / "two", monkeypatch, at=4)
    for name in ("shock_steps", "shock_agents"):
        file = f"{name}.parquet"
        assert (run.path / file).read_bytes() == (again / file).read_bytes()


@pytest.mark.parametrize("name", FIGURES_HERE)
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "tailor"}, "did you mean 'taylor'"),
        ({"arms": [{"name": "a", "mechanism": "vgc"}]}, "did you mean 'vcg'"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "repeats a value"),
        ({"shock_step": 7}, "rising order"),
        ({"short_supply": 0.9}, "no shortage"),
    ],
)
def test_bad_configs_are_one_line(
    config: PriceShockConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = PriceShockConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
