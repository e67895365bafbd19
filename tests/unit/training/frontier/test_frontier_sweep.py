"""A frontier: run as children, put together and judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agent_economy.training.frontier.sweep import train_frontier


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
