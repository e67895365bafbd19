"""The figures of the valuation and shading studies, on runs whose answers are known."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from agent_economy.runs.reader import Run
from analysis.figures.base import FIGURES, Missing, in_order
from analysis.style import RC

ROWS = range(12)
SEEDS = (0, 1)
BUDGETS = (0.9, 0.6, 0.3)
#: loss per credit of taylor bids: what the market closes costs half as much again
RATES = {"market": 3.0, "random_tokens": 2.0, "random_agents": 2.5}
#: credits that taylor bids put on what each closes, at equal FLOPs
CREDITS = {"market": 1.0, "random_tokens": 1.5, "random_agents": 2.0}
VALUATION = [
    *("valuation", "valuation_table", "valuation_curves", "valuation_selection"),
    *("valuation_unions", "valuation_price"),
]
SHADING = ["shading", "shading_table"]


def frame(names: list[str], rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=names).assign(mechanism="uniform_price", scope="sequence")


def allocations() -> pd.DataFrame:
    """Taylor bids know every row's loss; equal bids know the budget alone."""
    rows = []
    for seed, row, budget in itertools.product(SEEDS, ROWS, BUDGETS):
        for family, rate in RATES.items():
            credits = CREDITS[family] * (1 - budget) * (10 + row + 5 * seed)
            loss = rate * credits
            rows.append((seed, row, budget, family, "taylor", credits, loss, loss / 1.2))
            rows.append((seed, row, budget, family, "constant", 1 - budget, loss, loss / 1.2))
    names = ["seed", "row", "budget_fraction", "family", "policy", "predicted_credits"]
    table = frame([*names, "measured_change", "parts_change"], rows)
    return table.assign(flops_fraction=table["budget_fraction"], tokens=48)


def judged() -> pd.DataFrame:
    """What both policies make of both markets' allocations, which are the same here."""
    market = allocations().query("family == 'market'").drop(columns=["family", "parts_change"])
    makers = [
        market.assign(judge=market["policy"], policy=maker) for maker in ("taylor", "constant")
    ]
    return pd.concat(makers, ignore_index=True)


def unions() -> pd.DataFrame:
    rows = [
        (seed, row, kind, size, (1 + row) * 2 * size, (1 + row) * size)
        for seed, row, kind, size in itertools.product(SEEDS, ROWS, ("heads", "blocks"), (2, 4))
    ]
    return frame(["seed", "row", "kind", "size", "together_change", "parts_change"], rows)


def shadow_prices() -> pd.DataFrame:
    """Taylor prices rank layers and budgets as losses do; constant ones the other way round."""
    rows = []
    for seed, row, layer, budget in itertools.product(SEEDS, ROWS, (0, 1, -1), BUDGETS):
        price = (layer + 3) * (1.5 - budget)
        gflops = 1 + row / 10
        for policy, sign in (("taylor", 1), ("constant", -1)):
            loss = (4 * price if sign > 0 else 100 - price) * gflops
            rows.append((seed, row, layer, budget, policy, gflops, price * gflops, loss))
    names = ["seed", "row", "layer", "budget_fraction", "policy"]
    return frame([*names, "saved_gflops", "priced_credits", "loss_change"], rows)


def shading() -> pd.DataFrame:
    """Gains of 1 / agents of the rent at factor 0.5 under one mechanism, none under the other."""
    rows = []
    deviations = {"uniform_price": ["all_bids"], "vcg": ["all_bids", "one_bid"]}
    deviations["vcg"].append("all_bids_charged_by_agent")
    for mechanism, names in deviations.items():
        for seed, draw, agents, factor in itertools.product(SEEDS, ROWS, (2, 10), (0.5, 0.9)):
            for name in names:
                rent = 10.0 + draw
                best = mechanism == "uniform_price" and factor == 0.5
                gain = rent / agents if best else -1.0
                rows.append((mechanism, name, seed, draw, agents, factor, gain, rent, rent))
    names = ["mechanism", "deviation", "seed", "draw", "agents", "level", "gain"]
    table = pd.DataFrame(rows, columns=[*names, "uniform_rent", "truthful_rent"])
    return table.assign(market="synthetic", family="shade")


@pytest.fixture(scope="module")
def known(synthetic: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Run:
    unit = {"metric": ["measured_change"], "value": [0.0], "unit": ["1 - cosine"]}
    tables = {
        "allocations_measured": allocations(),
        "allocations_judged": judged(),
        "unions": unions(),
        "shadow_prices": shadow_prices(),
        "shading": shading(),
        "metrics": pd.DataFrame(unit),
    }
    return Run(synthetic.make_run(tmp_path_factory.mktemp("runs") / "known", tables))


def pixels(name: str, data: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        FIGURES.get(name)().draw(data).savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_each_scenario_shows_its_own() -> None:
    assert set(VALUATION) <= {figure.name for figure in in_order("valuation")}
    assert set(SHADING) <= {figure.name for figure in in_order("shading")}
    assert not {*VALUATION, *SHADING} & {figure.name for figure in in_order("scarcity")}


@pytest.mark.parametrize("name", [*VALUATION, *SHADING])
def test_the_csv_alone_draws_the_same_figure(name: str, known: Run) -> None:
    data = FIGURES.get(name)().data(known)
    again = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    assert pixels(name, data) == pixels(name, again)
    found = FIGURES.get(name)().findings(data)
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in found)


def test_fits_and_biases(known: Run) -> None:
    data = FIGURES.get("valuation")().data(known)
    at = data.set_index(["policy", "family", "statistic"]).value
    assert at["taylor", "market", "slope_origin"] == pytest.approx(3)
    assert at["taylor", "market", "r2_origin"] == pytest.approx(1)
    assert at["taylor", "random_tokens", "bias"] == pytest.approx(1.5)
    assert at["taylor", "random_agents", "bias"] == pytest.approx(1.2)
    # Per text and budget, credits 1 (twice: two makers), 1.5, 2 against losses 3, 3, 3, 5.
    exact = np.corrcoef([1, 1, 1.5, 2], [3, 3, 3, 5])[0, 1] ** 2
    assert at["taylor", "equal_flops", "r2"] == pytest.approx(exact)
    assert np.isnan(at["constant", "equal_flops", "r2"])  # all the same at equal FLOPs
    assert data[data.policy == "taylor"].low.notna().all()


def test_curves_put_predictions_in_units_of_loss(known: Run) -> None:
    data = FIGURES.get("valuation_curves")().data(known)
    tokens = data.query("policy == 'taylor' and family == 'random_tokens'")
    assert tokens.predicted.tolist() == pytest.approx(tokens.measured.tolist())
    market = data.query("policy == 'taylor' and family == 'market'")
    assert market.measured.tolist() == pytest.approx((1.5 * market.predicted).tolist())
    assert (market.low < market.measured).all() and (market.measured < market.high).all()


def test_selection_at_every_budget(known: Run) -> None:
    data = FIGURES.get("valuation_selection")().data(known)
    at = data[data.policy == "taylor"].set_index("family").value
    assert at["random_tokens"].tolist() == pytest.approx([1.5] * 3)
    assert at["random_agents"].tolist() == pytest.approx([1.2] * 3)


def test_unions_and_halves(known: Run) -> None:
    data = FIGURES.get("valuation_unions")().data(known)
    assert data[data.part == "unions"].value.tolist() == pytest.approx([2.0] * 4)
    halves = data[data.part == "halves"]
    assert halves.value.tolist() == pytest.approx([1.2] * 9)
    assert set(halves.name) == {"market/taylor", "random_tokens", "random_agents"}


def test_prices_against_losses(known: Run) -> None:
    data = FIGURES.get("valuation_price")().data(known)
    at = data[data.kind != "point"].set_index(["policy", "kind"]).value
    assert at["taylor", "slope_origin"] == pytest.approx(4)
    assert at["taylor", "rank"] == pytest.approx(1) and at["constant", "rank"] == pytest.approx(-1)
    points = data.query("policy == 'taylor' and kind == 'point'")
    assert points.value.tolist() == pytest.approx((4 * points.x).tolist())
    assert set(points.layer) == {-1, 0, 1}
    layers = data.query("policy == 'taylor' and kind == 'slope_origin_of_layer'")
    assert layers.value.tolist() == pytest.approx([4, 4])


def test_shading_gains(known: Run) -> None:
    data = FIGURES.get("shading")().data(known)
    at = data.set_index(["mechanism", "deviation", "judged", "agents"])
    for judged in ("best", "fixed"):
        assert at.value["uniform_price", "all_bids", judged, 2] == pytest.approx(0.5)
        assert at.value["uniform_price", "all_bids", judged, 10] == pytest.approx(0.1)
        assert at.value["vcg", "all_bids", judged, 2] == 0


@pytest.mark.parametrize(
    ("name", "table", "make", "says"),
    [
        ("valuation", "allocations_measured", allocations, "measured no allocation"),
        ("valuation_curves", "allocations_measured", allocations, "measured no allocation"),
        ("valuation_selection", "allocations_measured", allocations, "measured no allocation"),
        ("valuation_price", "shadow_prices", shadow_prices, "priced nothing"),
        ("shading", "shading", shading, "drew no market"),
        ("shading_table", "shading", shading, "drew no market"),
    ],
)
def test_an_empty_table_is_said_to_be(
    name: str,
    table: str,
    make: Callable[[], pd.DataFrame],
    says: str,
    synthetic: SimpleNamespace,
    tmp_path: Path,
) -> None:
    tables = {table: make().iloc[:0], "allocations_judged": judged()}
    run = Run(synthetic.make_run(tmp_path / "empty", tables))
    with pytest.raises(Missing, match=says):
        FIGURES.get(name)().data(run)
