"""Charts as data: every cell where it belongs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agent_economy.dashboard import charts
from agent_economy.dashboard.reading import Reading

LAYERS, LENGTH, AGENTS, HEADS = 3, 4, 5, 2


@pytest.fixture
def reading() -> Reading:
    random = np.random.default_rng(0)
    shape = (LAYERS, LENGTH, AGENTS)
    return Reading(
        tokens=["the", "cat", "the", "hat"],
        heads=HEADS,
        bought_YLN=random.integers(0, 2, shape).astype(float),
        bid_YLN=random.uniform(0, 5, shape),
        paid_YLN=np.full(shape, np.nan),
        price_YL=random.uniform(0, 1e-3, (LAYERS, LENGTH)),
    )


def test_all_layers_stand_one_above_the_other(reading: Reading) -> None:
    option = charts.sentence_heat(reading, "bought")
    cells = {(column, row): value for column, row, value in charts.heat_cells(option)}
    assert len(cells) == LAYERS * LENGTH * AGENTS
    for layer in range(LAYERS):
        for agent in range(AGENTS):
            for token in range(LENGTH):
                row = layer * AGENTS + agent
                assert cells[token, row] == reading.bought_YLN[layer, token, agent]
    assert option["yAxis"]["data"][AGENTS + 3] == "L1 block 1"
    assert option["yAxis"]["data"][2 * AGENTS] == "L2 head 0"


def test_one_layer(reading: Reading) -> None:
    option = charts.sentence_heat(reading, "bid", "layer 2")
    cells = {(column, row): value for column, row, value in charts.heat_cells(option)}
    assert len(cells) == LENGTH * AGENTS
    assert cells[1, 4] == pytest.approx(reading.bid_YLN[2, 1, 4], rel=1e-3)
    assert option["yAxis"]["data"] == [f"L2 head {n}" for n in (0, 1)] + [
        f"L2 block {n}" for n in (0, 1, 2)
    ]


def test_a_token_that_comes_twice_has_two_columns(reading: Reading) -> None:
    names = charts.sentence_heat(reading, "bought")["xAxis"]["data"]
    assert len(set(names)) == LENGTH and all("the" in names[i] for i in (0, 2))


def test_what_is_not_known_is_a_gap_and_every_option_is_json(reading: Reading) -> None:
    paid = charts.sentence_heat(reading, "paid")
    assert [value for _, _, value in charts.heat_cells(paid)] == [None] * LAYERS * LENGTH * AGENTS
    prices = [np.array([1.0, np.nan]), np.array([2.0, 3.0])]
    lines = charts.price_lines([1, 2], prices)
    assert [series["data"] for series in lines["series"]] == [
        [[1, 1.0], [2, 2.0]],
        [[1, None], [2, 3.0]],
    ]
    for option in (paid, lines, charts.price_heat(reading)):
        json.dumps(option, allow_nan=False)  # a browser reads no NaN


def test_small_prices_keep_their_digits(reading: Reading) -> None:
    cells = charts.heat_cells(charts.price_heat(reading))
    assert len(cells) == LAYERS * LENGTH
    for column, row, value in cells:
        assert value == pytest.approx(reading.price_YL[row, column], rel=1e-3)


def test_wallets_and_the_step_that_is_looked_at() -> None:
    wallets = [np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0])]
    option = charts.wallet_lines([5, 6], wallets, at=1)
    found = {series["name"]: series["data"] for series in option["series"]}
    assert found == {
        "poorest tenth": [[5, 1.0], [6, 2.0]],
        "median": [[5, 2.0], [6, 4.0]],
        "richest tenth": [[5, 3.0], [6, 8.0]],
    }
    assert option["series"][0]["markLine"]["data"] == [{"xAxis": 6}]


def test_agents_by_layer() -> None:
    values = np.arange(6.0).reshape(2, 3)
    option = charts.agent_heat(values, 1, "credits held")
    assert option["xAxis"]["data"] == ["head 0", "block 0", "block 1"]
    assert (2, 1, 5.0) in charts.heat_cells(option)
