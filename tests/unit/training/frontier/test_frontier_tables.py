"""A frontier's tables against its cells, with cells that are missing, broken or foreign."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frontiers import BUDGETS, LAYERS, PARTS, SKILL, make_cell, make_frontier

from agent_economy.errors import EconomyError
from agent_economy.metrics.frontier import hypervolume
from agent_economy.runs.reader import Run
from agent_economy.tasks.scores import score
from agent_economy.training.frontier.cells import RIVALS, is_complete
from agent_economy.training.frontier.tables import collect

Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frontier(tmp_path_factory.mktemp("frontier") / "sweep")


@pytest.fixture(scope="module")
def tables(sweep: Path) -> Tables:
    return collect(sweep)


def one(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_tables_are_written_and_read_back(sweep: Path, tables: Tables) -> None:
    run = Run(sweep)
    assert run.tables == sorted(tables)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(run.table(name), table, check_dtype=False)
    assert set(tables["cells"]["status"]) == {"complete"}
    assert len(tables["cells"]) == 3 * (4 * len(BUDGETS) + 2)


def test_a_dense_model_trained_as_long_is_the_reference_at_its_budget(tmp_path: Path) -> None:
    folder = make_frontier(tmp_path / "sweep", methods=["market", "dense_on"], budgets=[0.4, 0.25])
    for seed in (0, 1, 2):
        make_cell(folder, "dense_on", 0.25, seed)  # trained for as many epochs as others at 0.25
    tables = collect(folder)
    found = tables["verdicts"].query("rival == 'dense_on' and part == 'development'")
    metrics = tables["metrics"].query("part == 'development' and measure == 'score'")
    metrics = metrics[metrics["method"] == "dense_on"].groupby("budget_fraction")["value"].mean()
    for budget, own in ((0.4, metrics[1.0]), (0.25, metrics[0.25])):
        assert one(found, budget_fraction=budget)["rival_score"] == pytest.approx(100 * own)
    assert set(found["seeds"]) == {3}


def test_the_same_cells_give_the_same_bytes(sweep: Path, tables: Tables) -> None:
    before = {path.name: path.read_bytes() for path in sweep.glob("*.parquet")}
    collect(sweep)
    assert {path.name: path.read_bytes() for path in sweep.glob("*.parquet")} == before


def test_metrics_are_those_of_the_cells(sweep: Path, tables: Tables) -> None:
    metrics = tables["metrics"]
    record = json.loads((sweep / "cells" / "kwon-0.25-1" / "train.json").read_text())
    cell = metrics.query("method == 'kwon' and budget_fraction == 0.25 and seed == 1")
    for part, said in record["parts"].items():
        for measure in ("score", "n", "flops_fraction", "spend_fraction", "flops_per_token"):
            found = one(cell, part=part, measure=measure)["value"]
            assert found == pytest.approx(said[measure], abs=1e-12)
    assert one(cell, part="training", measure="train_seconds")["value"] == 61
    assert "metric" not in set(metrics["measure"])


def test_verdicts_hold_every_rival_and_budget(tables: Tables) -> None:
    verdicts = tables["verdicts"]
    assert len(verdicts) == len(PARTS) * len(RIVALS) * len(BUDGETS)
    run = verdicts[verdicts["verdict"] != "not run"]
    assert set(run["rival"]) == set(SKILL) - {"market"}
    lacking = verdicts[~verdicts["rival"].isin(SKILL)]
    assert set(lacking["note"]) == {"the rival was not run"} and lacking["low"].isna().all()
    assert set(run["margin"]) == {1.0} and set(run["seeds"]) == {3}
    win, low, margin = (run["verdict"] == "win"), run["low"], run["margin"]
    assert (win == (low > 0)).all()
    assert ((run["verdict"] == "lost") == (low <= -margin)).all()
    assert {"win", "lost"} <= set(run["verdict"])
    assert set(run.loc[run["rival"] == "random", "verdict"]) == {"win"}


def test_a_verdict_is_that_of_the_mean_scores(sweep: Path, tables: Tables) -> None:
    def points(method: str, budget: float) -> float:
        found = []
        for seed in range(3):
            cell = sweep / "cells" / f"{method}-{budget:g}-{seed}"
            table = pd.read_parquet(cell / "predictions.parquet").query("part == 'development'")
            found.append(100 * score("pearson_spearman", table["prediction"], table["label"]))
        return float(np.mean(found))

    row = one(tables["verdicts"], part="development", rival="dense_on", budget_fraction=0.25)
    ours, theirs = points("market", 0.25), points("dense_on", 1.0)
    assert row["economy"] == pytest.approx(ours) and row["rival_score"] == pytest.approx(theirs)
    assert row["difference"] == pytest.approx(ours - theirs)
    assert row["relative"] == pytest.approx(100 * (ours / theirs - 1))
    assert row["low"] < row["difference"] < row["high"] and row["n"] == PARTS["development"]


def test_hypervolume_is_that_of_the_points(tables: Tables) -> None:
    metrics = tables["metrics"].query("part == 'development' and method == 'market' and seed == 2")
    points = metrics.pivot(index="budget_fraction", columns="measure", values="value")
    expected = hypervolume(points["flops_fraction"], points["score"].to_numpy())
    volumes = tables["hypervolume"].query("part == 'development'")
    assert one(volumes, method="market", seed=2)["value"] == pytest.approx(float(expected))
    mean = one(volumes, method="market", seed=-1)
    own = volumes.query("method == 'market' and seed >= 0")["value"]
    assert mean["value"] == pytest.approx(own.mean()) and mean["low"] < mean["value"] < mean["high"]
    assert np.isnan(mean["difference"])
    rival = one(volumes, method="random", seed=-1)
    assert rival["difference"] == pytest.approx(mean["value"] - rival["value"])
    assert rival["difference_low"] > 0
    assert not set(volumes["method"]) & {"dense", "dense_on"}


def test_attention_is_paired_with_dense(sweep: Path, tables: Tables) -> None:
    found = tables["interpretability"]
    assert set(found["reference"]) == {"dense"} and "dense" not in set(found["method"])
    assert sorted(set(found["layer"])) == [-1, *range(LAYERS)]
    spread = tables["attention"].query("part == 'development' and layer == 1")
    both = [
        spread.query(f"method == '{method}' and budget_fraction == {budget}")["gini"].mean()
        for method, budget in (("market", 0.15), ("dense", 1.0))
    ]
    at = {"part": "development", "method": "market", "budget_fraction": 0.15, "measure": "gini"}
    row = one(found, **at, layer=1)
    assert row["value"] == pytest.approx(both[0])
    assert row["difference"] == pytest.approx(both[0] - both[1])
    assert row["difference_low"] > 0  # made so
    layers = found.query("layer >= 0 and part == 'development' and method == 'market'")
    layers = layers.query("budget_fraction == 0.15 and measure == 'gini'")
    assert one(found, **at, layer=-1)["difference"] == pytest.approx(layers["difference"].mean())


def test_what_is_missing_is_said_and_counts_as_not_run(tmp_path: Path) -> None:
    sweep = make_frontier(tmp_path / "s", methods=["market", "dense", "kwon"], budgets=[0.4, 0.15])
    cells = sweep / "cells"
    shutil.rmtree(cells / "market-0.4-2")
    shutil.rmtree(cells / "kwon-0.15-0")
    for seed in (1, 2):
        (cells / f"kwon-0.15-{seed}" / "predictions.parquet").write_bytes(b"PAR1 no table")
    shutil.rmtree(cells / "dense-1-1")
    make_cell(sweep, "dense", 1.0, 1, status="running")
    (cells / "teacher-0").mkdir()  # no cell of the tables
    tables = collect(sweep)
    status = tables["cells"].set_index(["method", "budget_fraction", "seed"])["status"]
    assert status["market", 0.4, 2] == "missing" and status["kwon", 0.15, 0] == "missing"
    assert status["kwon", 0.15, 1] == "broken" and status["dense", 1.0, 1] == "unfinished"
    assert len(status) == 15
    verdicts = tables["verdicts"].query("part == 'development'")
    row = one(verdicts, rival="kwon", budget_fraction=0.15)
    assert row["verdict"] == "not run" and row["note"] == "the rival was not run"
    row = one(verdicts, rival="kwon", budget_fraction=0.4)
    assert (row["seeds"], row["note"]) == (2, "2 of 3 seeds")
    # Seed 2 lacks an economy, seed 1 a dense model: one is left.
    row = one(verdicts, rival="dense", budget_fraction=0.4)
    assert (row["seeds"], row["note"]) == (1, "1 of 3 seeds; one seed: examples only")
    volumes = tables["hypervolume"].query("part == 'development'")
    assert sorted(volumes.query("method == 'market'")["seed"]) == [-1, 0, 1]
    # The rival has one budget only: the two are compared where both have points.
    assert one(volumes, method="kwon", seed=-1)["budgets"] == "0.4"


def test_a_missing_economy_never_wins(tmp_path: Path) -> None:
    sweep = make_frontier(tmp_path / "s", methods=["dense", "kwon"], budgets=[0.4])
    tables = collect(sweep)
    assert set(tables["verdicts"]["verdict"]) == {"not run"}
    assert "the economy was not run" in set(tables["verdicts"]["note"])


def test_without_dense_or_attention_tables_are_empty(tmp_path: Path) -> None:
    make_cell(tmp_path, "market", 0.4, 0, attention=False)
    make_cell(tmp_path, "kwon", 0.4, 0)
    tables = collect(tmp_path)  # trainings laid side by side, no manifest
    assert tables["interpretability"].empty and len(tables["attention"])
    row = one(tables["verdicts"], part="development", rival="kwon")
    assert row["note"] == "one seed: examples only" and row["low"] < row["high"]


@pytest.mark.parametrize(("task", "margin"), [("cola", 3.0), ("sst2", 1.0)])
def test_margins_are_those_of_the_task(tmp_path: Path, task: str, margin: float) -> None:
    make_frontier(tmp_path / "s", methods=["market", "kwon"], budgets=[0.4], task=task)
    assert set(collect(tmp_path / "s")["verdicts"]["margin"]) == {margin}


def test_seeds_with_examples_of_their_own_are_not_taken_for_the_same(tmp_path: Path) -> None:
    """Row 0 of one seed is then not row 0 of another: resampling may not tie them together."""
    sweep = make_frontier(tmp_path / "s", methods=["market", "kwon"], budgets=[0.4])

    def width() -> float:
        row = one(collect(sweep)["verdicts"], part="selection", rival="kwon", budget_fraction=0.4)
        assert row["n"] == PARTS["selection"] and row["seeds"] == 3
        return float(row["high"] - row["low"])

    def shuffle(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(PARTS["selection"])
        for method in ("market", "kwon"):
            path = sweep / "cells" / f"{method}-0.4-{seed}" / "predictions.parquet"
            table = pd.read_parquet(path)
            chosen = table["part"] == "selection"
            values = table.loc[chosen, ["prediction", "label"]].to_numpy()
            table.loc[chosen, ["prediction", "label"]] = values[order]
            table.to_parquet(path, index=False)

    together = width()
    for seed in range(3):
        shuffle(seed)
    # What three samples agree on is known better than what one does.
    assert width() < 0.9 * together


def test_cells_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="holds no cells"):
        collect(tmp_path)
    make_cell(tmp_path, "market", 0.4, 0, status="running")
    with pytest.raises(EconomyError, match="none of the 1 cells"):
        collect(tmp_path)
    make_cell(tmp_path, "market", 0.4, 1)
    make_cell(tmp_path, "kwon", 0.4, 1, task="sst2")
    with pytest.raises(EconomyError, match="a frontier is of one task"):
        collect(tmp_path)
    shutil.rmtree(tmp_path / "cells" / "kwon-0.4-1")
    path = make_cell(tmp_path, "random", 0.4, 1)
    table = pd.read_parquet(path / "predictions.parquet")
    table.loc[0, "label"] += 1
    table.to_parquet(path / "predictions.parquet")
    record = json.loads((path / "train.json").read_text())
    del record["parts"]["development"]["score"]
    (path / "train.json").write_text(json.dumps(record))
    with pytest.raises(EconomyError, match=r"market-0\.4-1 and random-0\.4-1 have other labels"):
        collect(tmp_path)
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("damage", ["score", "nan", "twice", "column", "record"])
def test_a_cell_that_contradicts_itself_is_broken(tmp_path: Path, damage: str) -> None:
    make_cell(tmp_path, "kwon", 0.4, 0)
    path = make_cell(tmp_path, "market", 0.4, 0)
    table = pd.read_parquet(path / "predictions.parquet")
    record = json.loads((path / "train.json").read_text())
    if damage == "score":
        record["parts"]["development"]["score"] += 0.01
    elif damage == "nan":
        table.loc[3, "prediction"] = np.nan
    elif damage == "twice":
        table.loc[1, "row"] = 0
    elif damage == "column":
        table = table.drop(columns="label")
    else:
        del record["metric"]
    table.to_parquet(path / "predictions.parquet")
    (path / "train.json").write_text(json.dumps(record))
    cells = collect(tmp_path)["cells"]
    said = {
        "score": "its predictions give",
        "nan": "no number",
        "twice": "two predictions",
        "column": "no column 'label'",
        "record": "no 'metric'",
    }
    row = one(cells, method="market")
    assert row["status"] == "broken" and said[damage] in row["note"]


def test_done_is_what_the_record_says(tmp_path: Path) -> None:
    assert is_complete(make_cell(tmp_path, "market", 0.4, 0))
    assert not is_complete(make_cell(tmp_path, "market", 0.4, 1, status="running"))
    assert not is_complete(tmp_path / "nowhere")
