"""A frontier's page: computed words, nothing left unsaid, the same bytes every time."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from frontiers import make_frontier

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.training.frontier.tables import collect
from analysis.figures.base import FIGURES, Figure, Missing, in_order
from analysis.frontier import between, frontier_page, scores
from analysis.frontier_names import in_order as methods_in_order
from analysis.frontier_names import label, method_styles
from analysis.report import write_report
from analysis.style import RC

NAMES = ["frontier", "frontier_attention"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_frontier(
        tmp_path_factory.mktemp("frontier") / "sweep",
        methods=["market", "dense", "dense_on", "random", "kwon"],
        budgets=[0.4, 0.15],
    )
    collect(folder)
    return folder


@pytest.fixture(scope="module")
def page(sweep: Path) -> str:
    return write_report([sweep]).read_text()


def cell_of(page: str, rival: str, budget: int) -> str:
    """A verdict's words, tags taken out; budgets are columns."""
    row = re.search(rf'<tr><td class="l">{re.escape(label(rival))}</td>(.*?)</tr>', page)
    assert row
    return re.sub(r"<[^>]+>", " ", row[1].split("</td>")[budget]).strip()


def test_only_figures_of_its_own_are_shown(page: str) -> None:
    names = [figure.name for figure in in_order("frontier")]
    assert names == ["frontier", "frontier_latency", "frontier_attention"]
    assert not set(NAMES) & {figure.name for figure in in_order("scarcity")}
    assert "The frontier" in page and "Where the economy loses" not in page
    assert "No summary" not in page


def test_every_verdict_is_the_tables(sweep: Path, page: str) -> None:
    verdicts = Run(sweep).table("verdicts").query("part == 'development'")
    assert set(verdicts["verdict"]) >= {"win", "lost", "not run"}
    for row in verdicts.itertuples():
        said = cell_of(page, row.rival, [0.4, 0.15].index(row.budget_fraction))
        assert said.split("  ")[0] == row.verdict
        if row.verdict != "not run":
            assert f"{row.difference:+.1f} ({row.low:+.1f} to {row.high:+.1f})" in said
        else:
            assert "the rival was not run" in said
    for rival in ("dense", "dense_on"):
        lost = verdicts.query(f"rival == '{rival}' and verdict == 'lost'")["budget_fraction"]
        assert re.search(rf"{label(rival)} at {' and '.join(f'{100 * b:g} %' for b in lost)}", page)
    count = (verdicts["verdict"] == "win").sum()
    assert f"{len(verdicts)} comparisons: {count} win" in page


def test_the_gap_is_to_the_better_dense_model(sweep: Path, page: str) -> None:
    rows = Run(sweep).table("verdicts").query("part == 'development' and budget_fraction == 0.15")
    dense = rows[rows["rival"].isin(["dense", "dense_on"])].sort_values("rival_score").iloc[-1]
    line = f"({label(dense['rival'])}) scores {dense['rival_score']:.1f}: {dense['relative']:+.1f}"
    assert line in page


def test_areas_spend_and_attention_are_the_tables(sweep: Path, page: str) -> None:
    run = Run(sweep)
    area = run.table("hypervolume").query("part == 'development' and method == 'kwon'")
    whole = area[area["seed"] == -1].iloc[0]
    assert f"<td>{whole['value']:.3f}</td>" in page
    assert f"{whole['difference']:+.3f} ({whole['difference_low']:+.3f} to" in page
    metrics = run.table("metrics").query("part == 'development' and method == 'market'")
    spent = metrics.query("measure == 'flops_fraction' and budget_fraction == 0.4")["value"].mean()
    assert f"{100 * spent:.2f} %" in page
    change = run.table("interpretability").query(
        "part == 'development' and method == 'market' and layer == -1 and measure == 'gini'"
    )
    assert f"{change['difference'].iloc[0]:+.3f}" in page


def test_the_page_says_how_it_was_made_and_is_escaped(page: str) -> None:
    assert "agent-economy train --frontier -c config.toml -o ../sweep-again" in page
    assert "The economy (market, feature = &lt;rank&gt;) against" in page and "<rank>" not in page
    assert "<dt>Seeds</dt><dd>0, 1, 2</dd>" in page
    assert 'src="data:image/png' in page and "http" not in page.replace("http-equiv", "")
    assert "With 3 seeds intervals are too narrow" in page


def test_the_same_sweep_gives_the_same_bytes(sweep: Path, page: str) -> None:
    files = sorted((sweep / "figures").iterdir())
    before = [file.read_bytes() for file in files]
    assert write_report([sweep]).read_text() == page
    assert [file.read_bytes() for file in files] == before


def pixels(figure: Figure, data: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.draw(data).savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_the_csv_alone_draws_the_same_figure(name: str, sweep: Path) -> None:
    figure = FIGURES.get(name)()
    data = figure.data(Run(sweep))
    again = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    assert pixels(figure, data) == pixels(figure, again)


def test_the_frontier_is_of_means_and_spreads_over_seeds(sweep: Path) -> None:
    data = FIGURES.get("frontier")().data(Run(sweep))
    assert list(dict.fromkeys(data["method"])) == methods_in_order(data["method"])
    assert data["part"].iloc[0] == "development"
    metrics = Run(sweep).table("metrics").query("part == 'selection' and method == 'random'")
    values = metrics.query("budget_fraction == 0.15").pivot(
        index="seed", columns="measure", values="value"
    )
    row = data.query("part == 'selection' and method == 'random' and budget_fraction == 0.15")
    row = row.iloc[0]
    assert row["score"] == pytest.approx(100 * values["score"].mean())
    assert row["score_low"] == pytest.approx(100 * values["score"].min())
    assert row["flops"] == pytest.approx(values["flops_fraction"].mean())
    assert row["flops_high"] == pytest.approx(values["flops_fraction"].max()) and row["seeds"] == 3


def test_missing_cells_are_said(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(sweep, folder)
    shutil.rmtree(folder / "cells" / "market-0.15-1")
    (folder / "cells" / "kwon-0.4-0" / "predictions.parquet").unlink()
    failed = {"message": "failed", "cell": "market-0.15-1", "why": "out of memory"}
    (folder / "log.jsonl").write_text(f'{{"torn\n{json.dumps(failed)}\n')
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    collect(folder)
    page = write_report([folder]).read_text()
    assert "2 of 24 cells count for nothing" in page
    assert "economy at 15 %, seed 1 (missing: out of memory)" in page
    assert re.search(r"\(Kwon\) at 40 %, seed 0 \(broken: .*predictions\.parquet", page)
    assert "<code>agent-economy train --frontier -o sweep --resume</code>" in page
    assert "2 of 3 seeds" in cell_of(page, "random", 1)


def test_a_sweep_that_was_never_collected_is_one_line(tmp_path: Path) -> None:
    make_frontier(tmp_path / "s", methods=["market"], budgets=[0.4], seeds=[0], status="running")
    with pytest.raises(EconomyError, match="unfinished; complete it with `agent-economy train"):
        write_report([tmp_path / "s"])


def test_one_seed_without_dense_still_gives_a_page(tmp_path: Path) -> None:
    folder = make_frontier(tmp_path / "s", methods=["market", "kwon"], budgets=[0.4], seeds=[3])
    collect(folder)
    page = write_report([folder]).read_text()
    assert "One seed: intervals cover examples only" in page
    assert "Left out: no dense model" in page
    assert "It cannot be said: no dense model's attention was measured." in page  # the table
    assert "no dense model&#39;s attention was measured" in page  # the figure


def test_without_the_economy_figures_say_what_lacks(tmp_path: Path) -> None:
    folder = make_frontier(tmp_path / "s", methods=["dense", "kwon"], budgets=[0.4], seeds=[0])
    collect(folder)
    with pytest.raises(Missing, match="the economy"):
        FIGURES.get("frontier_attention")().data(Run(folder))
    page = write_report([folder]).read_text()
    assert "the economy was not run" in cell_of(page, "kwon", 0)
    assert cell_of(page, "magnitude", 0).startswith("not run")


def test_spend_above_the_budget_stands_out(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(sweep, folder)
    path = folder / "cells" / "market-0.4-0" / "train.json"
    record = json.loads(path.read_text())
    record["parts"]["development"]["flops_fraction"] = 0.41
    path.write_text(json.dumps(record))
    collect(folder)
    assert "up to 41.00 %: above the budget" in write_report([folder]).read_text()


def test_a_run_that_is_no_frontier_has_no_such_page(run_dir: Path) -> None:
    assert frontier_page(Run(run_dir)) is None


def test_methods_keep_their_colours() -> None:
    alone, together = method_styles(["kwon"]), method_styles(["market", "dense", "kwon", "mine"])
    assert alone["kwon"] == together["kwon"] and "dense" not in together
    assert together["mine"]["color"] not in {together[m]["color"] for m in ("market", "kwon")}
    assert label("mine_too") == "mine too"


def test_intervals_that_are_not_known_say_so() -> None:
    assert between(np.nan, np.nan) == "no interval"
    assert between(-0.25, 1.0) == "-0.2 to +1.0"


def test_scores_without_flops_are_kept() -> None:
    cell = {"method": "market", "budget_fraction": 0.4, "part": "development", "seed": 0}
    found = scores(pd.DataFrame([cell | {"measure": "score", "value": 0.5}]))
    assert found["score"].item() == 50 and np.isnan(found["flops"].item())


def test_methods_far_behind_do_not_hide_the_others(sweep: Path) -> None:
    figure = FIGURES.get("frontier")()
    data = figure.data(Run(sweep))
    one = data[data["part"] == "development"]
    best = one["score"].max()
    assert one["score"].min() < best - 3  # random masks
    whole, close = figure.draw(one).axes
    assert [ax.get_title() for ax in (whole, close)] == ["development", "development, close up"]
    near = one[one["score"] >= best - 3]
    low, high = close.get_ylim()
    assert low < near["score_low"].min() and near["score_high"].max() < high
    assert low > whole.get_ylim()[0]
    assert len(figure.draw(near).axes) == 1
