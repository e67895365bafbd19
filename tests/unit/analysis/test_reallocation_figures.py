"""Estimates, verdicts and figures of a reallocation run made up by hand."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from agent_economy.runs.reader import Run
from analysis.figures.base import FIGURES, Missing, in_order
from analysis.reallocation import estimates, layer_means, lead_market, markets, nested, utilities
from analysis.reallocation_verdict import answer, in_brief, kept, verdicts
from analysis.report import write_report
from analysis.style import RC

NAMES = ["reallocation", "reallocation_parts", "reallocation_layers", "reallocation_spread"]
SEEDS, ROWS, LAYERS, BUDGETS = 3, 12, 4, (0.8, 0.6, 0.4)
CELL = ["mechanism", "policy", "scope", "budget_fraction", "seed"]
LEAD = ("uniform_price", "taylor", "sequence")
#: what each arm does to the share of the top tokens at no supply at all: composition, within
MOVES = {
    ("uniform_price", "taylor", "market"): (0.05, 0.10),
    ("uniform_price", "taylor", "mask"): (0.02, -0.08),
    ("uniform_price", "random", "market"): (0.00, 0.09),
    ("posted_price", "taylor", "market"): (0.03, -0.01),
    ("posted_price", "taylor", "mask"): (0.00, -0.05),
    ("uniform", "taylor", "market"): (-0.02, -0.06),
}


def table(measures: tuple[str, ...], values: tuple[str, ...]) -> pd.DataFrame:
    """Dense shares differ much between rows, what scarcity does to them little."""
    generator = np.random.default_rng(5)
    rows = []
    dense = 0.3 + 0.1 * generator.standard_normal((SEEDS, ROWS))
    for (mechanism, policy, setting), budget in itertools.product(MOVES, BUDGETS):
        composition, within = MOVES[mechanism, policy, setting]
        for seed, row, layer, value in itertools.product(
            range(SEEDS), range(ROWS), range(-1, LAYERS), values
        ):
            start = dense[seed, row]
            sign = -1 if value == "idf" else 1
            composed = start + sign * composition * (1 - budget) + 0.002 * generator.normal()
            scarce = composed + sign * within * (1 - budget) + 0.002 * generator.normal()
            found: dict[str, object] = dict(
                zip(CELL, (mechanism, policy, "sequence", budget, seed), strict=True)
            )
            found |= {"setting": setting, "row": row, "layer": layer, "value": value}
            for measure in measures:
                found |= {
                    f"{measure}_dense": start,
                    f"{measure}_composed": composed,
                    f"{measure}_scarce": scarce,
                }
            rows.append(found)
    return pd.DataFrame(rows)


def metrics() -> pd.DataFrame:
    rows = []
    for (mechanism, policy, setting), budget in itertools.product(MOVES, BUDGETS):
        name = "utility" if setting == "market" else "mask_utility"
        loss = {"taylor": 0.2, "random": 0.5}[policy] + 0.1 * (setting == "mask")
        for seed, step in itertools.product(range(SEEDS), range(2)):
            value = 1 - (1 - budget) * loss - 0.01 * step
            cell = (mechanism, policy, "sequence", budget, seed)
            rows.append((*cell, step, name, value, "cosine to dense"))
            if setting == "market":
                rows.append((*cell, step, "flops_fraction", budget, "of dense agent FLOPs"))
    return pd.DataFrame(rows, columns=[*CELL, "step", "metric", "value", "unit"])


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    return table(("share",), ("saliency", "idf", "leave_one_out"))


@pytest.fixture(scope="module")
def run(shares: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    folder.mkdir()
    (folder / "config.toml").write_text('model = "minilm"\n')
    manifest = {"scenario": "reallocation", "status": "complete", "seeds": {"cells": [0, 1, 2]}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    spread = table(("entropy", "relative_entropy", "gini"), ("",)).drop(columns="value")
    for name, frame in {"reallocation": shares, "spread": spread, "metrics": metrics()}.items():
        frame.to_parquet(folder / f"{name}.parquet")
    return Run(folder)


def estimate(found: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


# --- intervals ---------------------------------------------------------------------------------


def test_the_nested_bootstrap_is_that_of_plain_loops() -> None:
    """Many more resamples, drawn one by one: the same interval to their noise."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(4, 1)) + generator.normal(size=(4, 9))
    means = []
    for _ in range(3_000):
        drawn = [generator.choice(values[s], 9) for s in generator.integers(0, 4, 4)]
        means.append(np.mean(drawn))
    low, high = np.quantile(means, [0.025, 0.975])
    found = nested(values)
    assert found.mean == pytest.approx(values.mean()) and found.n == 36
    assert found.low == pytest.approx(low, abs=0.1) and found.high == pytest.approx(high, abs=0.1)


def test_intervals_cover_the_truth_and_widen_where_seeds_differ() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = nested(generator.normal(size=(5, 20)))
        hits += found.low <= 0 <= found.high
    assert hits >= 186
    rows = generator.normal(size=(5, 20))
    alone, apart = nested(rows), nested(rows + 3 * generator.normal(size=(5, 1)))
    assert apart.high - apart.low > 3 * (alone.high - alone.low)


def test_missing_rows_are_left_out() -> None:
    values = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    assert nested(values).mean == 2 and nested(values).n == 3
    assert np.isnan(nested(np.full((2, 2), np.nan)).mean)
    assert np.isnan(nested([[4.0]]).low) and nested([[4.0]]).mean == 4


# --- estimates ---------------------------------------------------------------------------------


def test_estimates_are_paired_means_over_rows(shares: pd.DataFrame) -> None:
    whole = shares[shares.layer == -1]
    found = estimates(whole, "share", ["value"])
    at = {"mechanism": "uniform_price", "policy": "taylor", "budget_fraction": 0.4}
    rows = whole.query(
        "mechanism == 'uniform_price' and policy == 'taylor' and budget_fraction == 0.4"
        " and value == 'saliency'"
    )
    market, mask = (rows[rows.setting == name] for name in ("market", "mask"))
    bids = whole.query(
        "mechanism == 'uniform_price' and policy == 'random' and budget_fraction == 0.4"
        " and value == 'saliency'"
    )
    expected = {
        ("market", "change"): (market.share_scarce - market.share_dense).mean(),
        ("market", "composition"): (market.share_composed - market.share_dense).mean(),
        ("market", "within"): (market.share_scarce - market.share_composed).mean(),
        ("random mask", "gain"): market.share_scarce.mean() - mask.share_scarce.mean(),
        ("random bids", "gain"): market.share_scarce.mean() - bids.share_scarce.mean(),
        ("random bids", "change"): (bids.share_scarce - bids.share_dense).mean(),
    }
    for (arm, quantity), mean in expected.items():
        row = estimate(found, value="saliency", arm=arm, quantity=quantity, **at)
        assert row["mean"] == pytest.approx(mean, rel=1e-9)
        assert row["low"] < row["mean"] < row["high"] and row["n"] == SEEDS * ROWS
        # Rows differ by 0.1, the effect by 0.002: only pairing can see it.
        assert row["high"] - row["low"] < 0.01


def test_parts_add_up(shares: pd.DataFrame) -> None:
    found = estimates(shares[shares.layer == -1], "share", ["value"])
    wide = found.pivot_table(
        index=["mechanism", "policy", "budget_fraction", "value", "arm"],
        columns="quantity",
        values="mean",
    )
    assert np.allclose(wide.composition + wide.within, wide.change, atol=1e-15)
    assert np.allclose(wide.dense + wide.change, wide.scarce, atol=1e-15)


def test_markets_and_their_lead(shares: pd.DataFrame) -> None:
    assert lead_market(shares) == LEAD
    assert markets(shares) == [LEAD, ("posted_price", "taylor", "sequence")]


def test_utilities_stand_beside_every_arm(run: Run) -> None:
    found = utilities(run)
    at = {"mechanism": "uniform_price", "policy": "taylor", "budget_fraction": 0.4}
    for arm, mean in (("market", 0.875), ("random mask", 0.815), ("random bids", 0.695)):
        assert estimate(found, arm=arm, **at)["mean"] == pytest.approx(mean)
    assert estimate(found, arm="dense", **at)["mean"] == 1


def test_utility_of_examples_is_paired_with_the_dense_model(
    shares: pd.DataFrame, tmp_path: Path
) -> None:
    """Dense: 3 of 4 right under either seed; the market: 2 of 4, both among the dense ones."""
    label, right = [0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]
    outcome = {"example": range(4), "label": label, "loss": 0.0, "tokens": 1.0, "step": 0}
    dense = [pd.DataFrame({**outcome, "prediction": right, "seed": seed}) for seed in (0, 1)]
    pd.concat(dense).to_parquet(tmp_path / "dense.parquet")
    cell = dict(zip(CELL, (*LEAD, 0.4, 0), strict=True))
    scarce = [
        pd.DataFrame({**outcome, **cell, "seed": seed, "prediction": [0.0, 0.0, 0.0, 0.0]})
        for seed in (0, 1)
    ]
    for name in ("examples", "mask_examples"):
        pd.concat(scarce).to_parquet(tmp_path / f"{name}.parquet")
    unit = {**cell, "step": 0, "metric": "utility_of_batch", "value": 0.5, "unit": "accuracy"}
    pd.DataFrame([unit]).to_parquet(tmp_path / "metrics.parquet")
    for name, text in (("config.toml", ""), ("manifest.json", '{"status": "complete"}')):
        (tmp_path / name).write_text(text)
    found = utilities(Run(tmp_path)).set_index("arm")
    assert found.loc["market", "mean"] == 0.5 and found.loc["random mask", "mean"] == 0.5
    assert found.loc["dense", "mean"] == 0.75 and found.loc["kept", "mean"] == -0.25
    assert found.loc["kept", "low"] < -0.25 < found.loc["kept", "high"] <= 0
    (sentence,) = kept(found.reset_index())
    assert sentence.startswith("Utility, accuracy, 40 %: 0.500 (dense 0.750, paired -0.250 [")


# --- the verdict -------------------------------------------------------------------------------


def interval_rows(*bounds: tuple[float, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(bounds, columns=["budget_fraction", "low", "high"])
    return frame.assign(mean=(frame.low + frame.high) / 2)


@pytest.mark.parametrize(
    ("bounds", "start"),
    [
        ([(0.8, 0.01, 0.02), (0.4, 0.02, 0.03)], "yes ("),
        ([(0.8, -0.02, -0.01)], "no ("),
        ([(0.8, -0.02, 0.01), (0.4, -0.01, 0.05)], "cannot tell ("),
        (
            [(0.8, 0.01, 0.02), (0.6, 0.01, 0.02), (0.4, -0.02, -0.01)],
            "yes at 80 %, 60 %, no at 40 % (",
        ),
        ([(0.8, np.nan, np.nan)], "cannot tell ("),
    ],
)
def test_answers_follow_from_intervals(
    bounds: list[tuple[float, float, float]], start: str
) -> None:
    assert answer(interval_rows(*bounds)).startswith(start)


def test_the_verdict_says_what_was_put_in(shares: pd.DataFrame) -> None:
    found = estimates(shares[shares.layer == -1], "share", ["value"])
    _, saliency, idf, _ = verdicts(found, LEAD)
    assert saliency.startswith("Gradient saliency, against the dense model: yes (")
    assert "against a random mask of equal spend: yes (" in saliency
    assert "against lots without a market: yes (" in saliency
    assert idf.startswith("Rarity (IDF), against the dense model: no (")
    other = in_brief(found, ("posted_price", "taylor", "sequence"))
    assert "posted price, taylor bids, sequence scope" in other
    assert "gradient saliency: yes (" in other and "rarity (IDF): no (" in other
    change = re.search(r"40 %: \+([\d.]+) \[", saliency)
    assert change and float(change[1]) == pytest.approx(100 * 0.6 * 0.15, abs=0.2)


# --- figures -----------------------------------------------------------------------------------


def test_figures_belong_to_their_scenario_alone() -> None:
    assert [f.name for f in in_order("reallocation") if f.scenario] == NAMES
    assert not {f.name for f in in_order("scarcity")} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    figure = FIGURES.get(name)()
    data = figure.data(run)
    again = pd.read_csv(io.StringIO(data.to_csv(index=False)), keep_default_na=True)
    images = []
    for frame in (data, again):
        buffer = io.BytesIO()
        with matplotlib.rc_context(RC):
            figure.draw(frame).savefig(buffer, format="png", dpi=40)
        images.append(buffer.getvalue())
    assert images[0] == images[1] and figure.findings(data) == figure.findings(again)


def test_layers_are_drawn_at_the_scarce_budget(run: Run) -> None:
    data = FIGURES.get("reallocation_layers")().data(run)
    assert set(data.budget_fraction) == {0.4} and set(data.layer) == set(range(-1, LAYERS))
    assert set(data.arm) == {"market", "random bids", "random mask", "lots"}


def test_layer_means_weigh_layers_alike_and_leave_out_closed_ones(shares: pd.DataFrame) -> None:
    closed = shares.copy()
    closed.loc[(closed.row == 3) & (closed.layer == 1), "share_scarce"] = np.nan
    found = layer_means(closed, "share", ["value"])
    keys = {"seed": 1, "value": "idf", "setting": "mask", "budget_fraction": 0.6}
    one = {"mechanism": "posted_price", "policy": "taylor"}
    for row, layers in ((3, [0, 2, 3]), (4, [0, 1, 2, 3])):
        where = {**keys, **one, "row": row}
        own = shares[shares.layer.isin(layers)]
        for column, value in where.items():
            own = own[own[column] == value]
        for view in ("dense", "composed", "scarce"):
            mean = estimate(found, **where)[f"share_{view}"]
            assert mean == pytest.approx(own[f"share_{view}"].mean(), rel=1e-12)


def test_a_run_without_a_market_has_no_figure(shares: pd.DataFrame, tmp_path: Path) -> None:
    for name, text in (("config.toml", ""), ("manifest.json", '{"status": "complete"}')):
        (tmp_path / name).write_text(text)
    lots = shares[shares.mechanism == "uniform"]
    lots.to_parquet(tmp_path / "reallocation.parquet")
    with pytest.raises(Missing, match="no market"):
        FIGURES.get("reallocation")().data(Run(tmp_path))


def test_the_report_holds_figures_and_verdict(shares: pd.DataFrame, tmp_path: Path) -> None:
    manifest = '{"scenario": "reallocation", "status": "complete"}'
    for name, text in (("config.toml", ""), ("manifest.json", manifest)):
        (tmp_path / name).write_text(text)
    whole = shares[(shares.layer == -1) & (shares.value == "saliency")]
    whole.to_parquet(tmp_path / "reallocation.parquet")
    page = write_report([tmp_path]).read_text()
    assert "Does attention move toward valuable tokens?" in page
    assert "Gradient saliency, against the dense model: yes" in page
    for name in NAMES:
        assert f'id="run-1-{name}"' in page
    assert (tmp_path / "figures" / "reallocation_parts.csv").is_file()
    assert "Left out: the run has no table spread." in page
