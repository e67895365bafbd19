"""Timed cells become a table of their own and a figure; the other tables stay as they were."""

from __future__ import annotations

import io
import json
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from frontiers import make_frontier

from agent_economy.runs.reader import Run
from agent_economy.training.frontier.tables import collect
from agent_economy.training.frontier.timing import TIMING
from analysis.figures.base import FIGURES, Missing
from analysis.report import write_report
from analysis.style import RC

RATIOS = {("market", 0.4, 0): 0.45, ("market", 0.4, 1): 0.55, ("market", 0.2, 0): 0.3,
          ("kwon", 0.4, 0): 0.47, ("dense", 1, 0): 1.01}  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_frontier(
        tmp_path_factory.mktemp("sweep") / "sweep",
        methods=["market", "kwon", "dense"],
        budgets=[0.4, 0.2],
        seeds=[0, 1],
    )
    collect(folder)  # each test may run first, or alone
    return folder


def test_a_sweep_that_was_not_timed_says_what_to_do(sweep: Path) -> None:
    collect(sweep)
    with pytest.raises(Missing, match=r"python -m benchmarks\.frontiers FOLDER --time"):
        FIGURES.get("frontier_latency")().data(Run(sweep))
    assert "no cell was timed" in write_report([sweep]).read_text()


def test_means_and_spreads_of_timed_cells_only(sweep: Path) -> None:
    before = (sweep / "metrics.parquet").read_bytes()
    for (method, budget, seed), ratio in RATIOS.items():
        timing = {
            "executor": "compacted",
            "latency_ms_per_example": 7.5 * ratio,
            "latency_ratio_vs_dense": ratio,
        }
        path = sweep / "cells" / f"{method}-{budget:g}-{seed}" / TIMING
        path.write_text(json.dumps(timing))
    collect(sweep)
    assert (sweep / "metrics.parquet").read_bytes() == before
    timings = Run(sweep).table("timings")
    assert len(timings) == 2 * len(RATIOS) and set(timings["executor"]) == {"compacted"}
    member = FIGURES.get("frontier_latency")()
    data = member.data(Run(sweep))
    row = data.query("part == 'development' and method == 'market' and budget_fraction == 0.4")
    assert row["ratio"].item() == pytest.approx(0.5) and row["seeds"].item() == 2
    assert row[["ratio_low", "ratio_high"]].to_numpy().tolist() == [[0.45, 0.55]]
    metrics = (
        Run(sweep)
        .table("metrics")
        .query("part == 'development' and method == 'market' and budget_fraction == 0.4")
    )
    scores = metrics[metrics["measure"] == "score"]["value"]
    assert row["score"].item() == pytest.approx(100 * scores.mean())
    assert not len(data.query("method == 'kwon' and budget_fraction == 0.2"))
    said = member.findings(data)
    assert "takes 50 % of the dense model's time (2.0 times as fast)" in said[0]
    with matplotlib.rc_context(RC):
        images = []
        for frame in (data, pd.read_csv(io.StringIO(data.to_csv(index=False)))):
            buffer = io.BytesIO()
            member.draw(frame).savefig(buffer, format="png", dpi=40)
            images.append(buffer.getvalue())
    assert images[0] == images[1]
    assert "The frontier on a clock" in write_report([sweep]).read_text()
