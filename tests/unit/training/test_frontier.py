"""A frontier: cells are made of settings, run as children, put together and judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agent_economy.config import Named
from agent_economy.errors import EconomyError
from agent_economy.runs.config import load_toml
from agent_economy.runs.sweep import Job
from agent_economy.training.frontier import (
    MENU,
    RESERVED,
    FrontierSettings,
    _jobs,
    train_frontier,
)
from agent_economy.training.frontier_cells import RIVALS
from agent_economy.training.methods import METHODS
from agent_economy.training.settings import TrainSettings

COMMITTED = sorted(Path(__file__).parents[3].glob("benchmarks/frontier/*.toml"))


def test_every_rival_of_the_tables_is_on_the_menu() -> None:
    assert set(MENU) == set(RIVALS)
    for named in MENU.values():
        assert named.name in METHODS.members()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_frontiers_are_made_of_sound_cells(path: Path) -> None:
    settings = load_toml(FrontierSettings, path, [])
    jobs = _jobs(settings, Path("sweep"))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    dense = [rival for rival in settings.rivals if rival in ("dense", "dense_on")]
    others = len(settings.rivals) + 1 - len(dense)
    per_seed = 1 + len(dense) + others * len(settings.budgets)
    if settings.many is not None:
        per_seed += 1 + len(settings.budgets)
    assert len(jobs) == per_seed * len(settings.seeds)
    for job in jobs:
        if "train" not in job.argv or job.name.startswith("many-"):
            continue
        made = made_of(job)
        assert made.model == f"sweep/cells/teacher-{made.seed}"
        assert job.after == (f"teacher-{made.seed}",)
        method, budget, seed = job.name.rsplit("-", 2)
        assert (made.budget, made.seed) == (float(budget), int(seed))
        assert made.method == (settings.economy if method == "market" else MENU[method])


def made_of(job: Job) -> TrainSettings:
    """What a cell's command line comes to."""
    words = [word for word, flag in zip(job.argv[1:], job.argv, strict=False) if flag == "-s"]
    return load_toml(TrainSettings, None, words)


def jobs_of(*wishes: str) -> dict[str, Job]:
    settings = load_toml(FrontierSettings, None, ["task=stsb", "seeds=[0]", *wishes])
    return {job.name: job for job in _jobs(settings, Path("sweep"))}


def test_a_dense_reference_is_trained_for_as_long_as_what_it_is_compared_with() -> None:
    rivals = 'rivals=["dense", "dense_on", "fisher_retrain"]'
    wishes = [
        "budgets=[0.4, 0.25, 0.15]",
        rivals,
        "train={epochs = 8}",
        "many={budgets=[0.1, 0.9]}",
    ]
    jobs = jobs_of(*wishes, 'epochs={"0.25" = 16, "0.4" = 8}')
    epochs = {n: made_of(j).epochs for n, j in jobs.items() if "train" in j.argv}
    assert epochs == {
        "dense-1-0": 8,
        "dense_on-1-0": 8,
        "dense_on-0.25-0": 16,
        "market-0.4-0": 8,
        "market-0.25-0": 16,
        "market-0.15-0": 8,
        "fisher_retrain-0.4-0": 8,
        "fisher_retrain-0.25-0": 16,
        "fisher_retrain-0.15-0": 8,
        "many-0": 16,
    }
    assert made_of(jobs["dense_on-0.25-0"]).budget == 1.0
    # Where no budget has the usual number, nobody needs a reference that does.
    jobs = jobs_of("budgets=[0.25]", rivals, 'epochs={"0.25" = 16}')
    assert "dense_on-0.25-0" in jobs and "dense_on-1-0" not in jobs
    # And without any the cells are what they were.
    plain = jobs_of("budgets=[0.25]", rivals)
    assert "-s epochs" not in " ".join(plain["market-0.25-0"].argv) and "dense_on-1-0" in plain


def test_the_model_for_many_budgets_is_the_economys_own() -> None:
    wishes = ["budgets=[0.25]", "rivals=[]", "many={budgets = [0.2, 0.6]}"]
    jobs = jobs_of(*wishes, 'economy={name = "posted", options = {rate = 0.1}}')
    assert made_of(jobs["many-0"]).method == Named(
        name="posted", options={"rate": 0.1, "budgets": [0.2, 0.6]}
    )


def test_test_rows_are_kept_from_teachers_and_cells_alike() -> None:
    jobs = jobs_of("budgets=[0.25]", "rivals=[]", "test_share=0.1")
    teacher = jobs["teacher-0"].argv
    assert teacher[teacher.index("--test-share") + 1] == "0.1"
    assert made_of(jobs["market-0.25-0"]).test_share == 0.1
    plain = jobs_of("budgets=[0.25]", "rivals=[]")
    assert not any("test" in word for job in plain.values() for word in job.argv)


def test_a_decoders_frontier_needs_no_teacher() -> None:
    settings = load_toml(
        FrontierSettings, None, ["task=wikitext2", "seeds=[0]", "budgets=[0.5]", "rivals=[]"]
    )
    (job,) = _jobs(settings, Path("sweep"))
    assert job.after == () and made_of(job).model == settings.dense.model


def test_a_decoders_frontier_is_judged_by_perplexity(
    tmp_path: Path, decoder: str, data: Path
) -> None:
    out = tmp_path / "sweep"
    wishes = [
        *("task=wikitext2", "seeds=[0]", "budgets=[0.5]", f"dense.model={decoder}"),
        'rivals=["dense", "random"]',
        "train={epochs = 2, block_size = 16, evidence = 16, batch_size = 16, learning_rate = 5e-3}",
    ]
    train_frontier(None, wishes, out, 1, data_dir=data)
    verdicts = pd.read_parquet(out / "verdicts.parquet").set_index("rival")
    assert set(verdicts["metric"]) == {"perplexity"}
    # The dense model knows nothing yet; whoever was trained knows more, at half the FLOPs.
    assert verdicts.loc["dense", "verdict"] == "win"
    records = {
        name: json.loads((out / "cells" / f"{name}-0" / "train.json").read_text())["score"]
        for name in ("market-0.5", "dense-1", "random-0.5")
    }
    percents = 100 * np.log(records["dense-1"] / records["market-0.5"])
    assert verdicts.loc["dense", "difference"] == pytest.approx(percents)
    metrics = pd.read_parquet(out / "metrics.parquet").set_index(["method", "measure"])["value"]
    assert metrics["market", "perplexity"] == pytest.approx(records["market-0.5"])
    volumes = pd.read_parquet(out / "hypervolume.parquet").query("seed == -1").set_index("method")
    spent = metrics["market", "flops_fraction"]
    expected = (1 - spent) / records["market-0.5"]
    assert volumes.loc["market", "value"] == pytest.approx(expected)


def test_a_frontier_from_nothing_to_verdicts(tmp_path: Path, encoder: str, data: Path) -> None:
    out = tmp_path / "sweep"
    wishes = [
        "task=stsb",
        "seeds=[0]",
        "budgets=[0.5]",
        'rivals=["dense"]',
        f"dense.model={encoder}",
        "dense.epochs=4",
        "dense.learning_rate=3e-3",
        "many={budgets = [0.3, 0.8]}",
        "test_share=0.3",
        "train={epochs = 1, block_size = 16, evidence = 16, batch_size = 16}",
    ]
    train_frontier(None, wishes, out, 2, data_dir=data)
    verdicts = pd.read_parquet(out / "verdicts.parquet")
    row = verdicts[(verdicts["rival"] == "dense") & (verdicts["part"] == "development")]
    assert set(row["verdict"]) <= {"win", "not worse", "lost"} and len(row)
    assert set(verdicts.loc[verdicts["rival"] == "l0", "verdict"]) == {"not run"}
    record = json.loads((out / "cells" / "market-0.5-0" / "train.json").read_text())
    assert record["parts"]["development"]["flops_fraction"] <= 0.5
    # One model stands in the tables at every budget; a rival for the verdicts like any other.
    many = verdicts[(verdicts["rival"] == "market_many") & (verdicts["part"] == "development")]
    assert list(many["budget_fraction"]) == [0.5] and many["verdict"].item() != "not run"
    # Rows that nobody looked at are judged beside, the same ones for all.
    unseen = verdicts[(verdicts["part"] == "test") & (verdicts["verdict"] != "not run")]
    assert set(unseen["rival"]) == {"dense", "market_many"}
    rows = pd.read_parquet(out / "predictions.parquet").query("part == 'test'")
    known = rows.groupby(["method", "budget_fraction"])["label"].apply(tuple)
    assert len(known) == 3 and len(set(known)) == 1 and len(known.iloc[0]) < 45
    # It may grow, and what is done is not done again.
    before = (out / "cells" / "market-0.5-0" / "train.json").read_bytes()
    train_frontier(None, [*wishes, "budgets=[0.5, 0.7]"], out, 2, resume=True, data_dir=data)
    assert (out / "cells" / "market-0.5-0" / "train.json").read_bytes() == before
    assert (out / "cells" / "market-0.7-0" / "train.json").is_file()


def late(budget: str) -> tuple[str, str]:
    return "budgets=[0.25]", f'epochs={{"{budget}" = 16}}'


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    def refused(match: str, *wishes: str) -> None:
        with pytest.raises(EconomyError, match=match):
            train_frontier(None, ["task=stsb", *wishes], tmp_path / "s", 1)
        assert not (tmp_path / "s").exists()

    refused("unknown rival 'fisher_retran'.*'fisher_retrain'", 'rivals=["fisher_retran"]')
    refused(r'epochs: "0.250" = 16; give .* of the budgets "0.25"', *late("0.250"))
    refused(r'epochs: "1" = 16', *late("1"))
    refused("budgets: 1.5 is not between 0 and 1", "budgets=[1.5]")
    refused("unknown task 'foo'", "task=foo")
    refused("seeds: 1 stands there twice", "seeds=[1, 0, 1]")
    refused("seeds: -1 is below 0", "seeds=[-1]")
    refused("budgets: 0.25 stands there twice", "budgets=[0.25, 0.4, 0.250]")
    refused("rivals: l0 stands there twice", 'rivals=["l0", "l0"]')
    refused("unknown method 'markt'.*'market'", "economy.name=markt")
    refused(
        "unknown option of method market 'aneal'.*'anneal'",
        "economy.name=market",
        "economy.options={aneal = 0.3}",
    )
    refused(
        "market: noise = -1; give a number", "economy.name=market", "economy.options={noise = -1}"
    )
    refused("market: budgets = .* smaller one first", "many={budgets = [0.6, 0.2]}")
    refused("train.learning_rate: .* greater than 0", "train={learning_rate = -1}")
    refused("train.epochs: .* valid integer", 'train={epochs = "x"}')
    refused("unknown key 'train.epoch'.*'train.epochs'", "train={epoch = 3}")
    refused("train.latency.budget_ms: every cell", "train={latency = {budget_ms = 4}}")


@pytest.mark.parametrize("key", RESERVED)
def test_what_a_frontier_sets_itself_is_no_setting_of_its_trainings(
    tmp_path: Path, key: str
) -> None:
    value = "0.1" if key in ("budget", "hold_out", "test_share") else "1"
    with pytest.raises(EconomyError, match=f"train.{key}: a frontier sets this itself; use "):
        train_frontier(None, ["task=stsb", f"train={{{key} = {value}}}"], tmp_path / "s", 1)
    assert not (tmp_path / "s").exists()
