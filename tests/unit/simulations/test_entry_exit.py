"""Entry and exit: entrants by hand, ruin that stops, structures, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from studies import assert_csv_draws_the_same, interrupted_and_resumed

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.entry_exit import judged
from simulations.entry_exit import SCENARIO
from simulations.entry_exit.cell import _model
from simulations.entry_exit.config import EntryExitConfig
from simulations.laboratory.session import Laboratory


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> EntryExitConfig:
    return EntryExitConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 14,
            "judge_steps": 2,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 20,
            "credits": 25.0,
            "threshold_credits": 12.0,
            "patience": 1,
            "every": 3,
            "entrants": 2,
            "supplies": [0.6],
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def run(config: EntryExitConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_entrants_come_back_with_fresh_money(config: EntryExitConfig) -> None:
    session = Laboratory(config, lambda *args, **fields: None)
    cell = {"supply": 0.6, "income": "contribution", "entry": "lots", "seed": 0}
    model = _model(session, cell, session.stream(0))
    population, ledger = model.economy.population, model.economy.ledger
    population.set_bankrupt([0, 3, 5], True)
    ledger.confiscate(ledger.wallet_A * population.bankrupt_A)
    before = float(ledger.wallet_A.sum())
    model.enter()
    assert int(population.bankrupt_A.sum()) == 1
    assert float(ledger.wallet_A.sum()) == pytest.approx(before + 2 * 25.0)
    ledger.check()
    model.enter()
    model.enter()  # nobody is left to come back
    assert not population.bankrupt_A.any()


def test_without_entry_nobody_comes_back(run: Run) -> None:
    steps = run.table("entry_steps")
    alone = steps[steps.entry == "never"].pivot_table(
        index="seed", columns="step", values="in_business"
    )
    assert (alone.diff(axis=1).iloc[:, 1:] <= 0).all(axis=None)
    assert (alone.iloc[:, -1] < alone.iloc[:, 0]).any()
    lots = steps[steps.entry == "lots"].pivot_table(
        index="seed", columns="step", values="in_business"
    )
    assert (lots.diff(axis=1).iloc[:, 1:] > 0).any(axis=None)


def test_masks_cost_no_more_than_survivors(run: Run) -> None:
    table = run.table("entry_structures")
    keys = ["supply", "income", "entry", "seed"]
    cost = table.groupby([*keys, "structure"]).cost_share.first().unstack()
    for rival in ("fisher_mask", "taylor_mask", "random_mask"):
        assert (cost[rival] <= cost.survivors + 1e-9).all()
    own = table[table.structure == "survivors"]
    assert (own.overlap == 1).all() and table.overlap.between(0, 1).all()
    agents = run.table("entry_agents")
    agents = agents[agents.member]
    name = agents["layer"] * 1000 + (agents["kind"] == "block") * 100 + agents["index"]
    sets = name.groupby([agents[k] for k in (*keys, "structure")]).agg(set)
    overlap = table.groupby([*keys, "structure"]).overlap.first()
    for place, members in sets.items():
        survivors = sets[(*place[:-1], "survivors")]
        expected = len(members & survivors) / len(members | survivors)
        assert overlap[place] == pytest.approx(expected)
    found = judged(table).set_index(["entry", "structure", "measure"])["mean"]
    assert found["never", "survivors", "beyond_survivors"] == 0
    gap = found["never", "random_mask", "loss"] - found["never", "survivors", "loss"]
    assert found["never", "random_mask", "beyond_survivors"] == pytest.approx(gap)


def test_resumed_runs_end_with_the_same_bytes(
    run: Run, config: EntryExitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.entry_exit.cell as cell

    again = interrupted_and_resumed(SCENARIO, config, cell, tmp_path / "two", monkeypatch, at=3)
    files = sorted(run.path.glob("entry_*.parquet"))
    assert len(files) == 3
    for file in files:
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["entry_exit", "entry_exit_layers", "entry_exit_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rivals": ["fischer_mask"]}, "did you mean 'fisher_mask'"),
        ({"judge_steps": 14}, "judge_steps"),
        ({"incomes": [{"name": "revenu"}]}, "did you mean 'revenue'"),
    ],
)
def test_bad_configs_are_one_line(
    config: EntryExitConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = EntryExitConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
