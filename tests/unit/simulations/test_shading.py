"""The shading study: a market solved by hand, theory, and the run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from studies import assert_csv_draws_the_same

from agent_economy.config import MechanismConfig
from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.misreports import gains, orders
from simulations.shading import SCENARIO
from simulations.shading.cell import ALL_BIDS, BY_AGENT, ONE_BID, cleared, deviations, pivot_rent_B
from simulations.shading.config import ShadingConfig
from simulations.shading.misreports import SHADE
from simulations.shading.session import Values

MECHANISMS = ("uniform_price", "first_price", "vcg")


def by_hand() -> Values:
    """Two tokens, two agents, all of one size; half of supply serves two of four bids."""
    value_LN = torch.tensor([[10.0, 4.0], [4.5, 1.0]], dtype=torch.float64)
    real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    return Values(value_LN, Tariff(torch.full((1, 2, 1), 1000), nobody_pays, real))


@pytest.mark.parametrize(
    ("mechanism", "gains", "truthful_rent"),
    [
        # Truthful: serves 10 and 4.5 at 4 each. At half: 5 and the other's 4, at the own 2.25.
        ("uniform_price", {ALL_BIDS: 1.25}, 6.5),
        # Truthful: pays all it bids. At half: pays 5 for what is worth 10.
        ("first_price", {ALL_BIDS: 5.0}, 0.0),
        # Each bid for itself as at a uniform price; without the agent the other is served 5, so
        # as a whole it pays 5 when truthful and keeps 9.5; at half it pays 1 and keeps 9.
        ("vcg", {ALL_BIDS: 1.25, ONE_BID: -0.5, BY_AGENT: -0.5}, 6.5),
    ],
)
def test_a_market_by_hand(mechanism: str, gains: dict[str, float], truthful_rent: float) -> None:
    config = ShadingConfig(factors=[0.5])
    found = deviations(config, build_mechanism(MechanismConfig(name=mechanism)), by_hand(), 0)
    at = found[found.family == SHADE].set_index("deviation")
    for deviation, gain in gains.items():
        assert at.gain[deviation] == pytest.approx(gain, abs=1e-6), deviation
    assert at.truthful_rent[ALL_BIDS] == pytest.approx(truthful_rent, abs=1e-6)
    assert at.uniform_rent[ALL_BIDS] == pytest.approx(6.5, abs=1e-6)


def auction(bid_NL: np.ndarray, slots: int, rule: str, agent: int) -> tuple[list[int], float]:
    """Tokens of one size: what an agent wins and pays, by sorting a list."""
    bids = sorted(((b, n, t) for (n, t), b in np.ndenumerate(bid_NL) if b > 0), reverse=True)
    won = [(b, t) for b, n, t in bids[:slots] if n == agent]
    if rule == "uniform_price":
        paid = len(won) * (bids[slots][0] if len(bids) > slots else 0.0)
    elif rule == "first_price":
        paid = sum(b for b, _ in won)
    else:  # Clarke: what the others would be served without the agent, less what they are
        others = [b for b, n, _ in bids if n != agent]
        paid = sum(others[:slots]) - sum(others[: slots - len(won)])
    return [t for _, t in won], paid


@pytest.mark.parametrize("seed", [0, 1, 2, 4])  # seed 3 serves the agent nothing
@pytest.mark.parametrize("rule", MECHANISMS)
def test_no_misreport_on_a_grid_gains_more(rule: str, seed: int) -> None:
    """Every bid vector on a grid that holds all best answers, against the families."""
    generator = torch.Generator().manual_seed(seed)
    value_LN = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.1
    real = torch.ones(1, 3, dtype=torch.bool)
    tariff = Tariff(torch.full((1, 3, 1), 1000), torch.zeros(0, dtype=torch.long), real)
    value_NL, slots = value_LN.T.numpy(), 4  # half of nine tokens

    def kept(bid_L: tuple[float, ...]) -> float:
        bid_NL = value_NL.copy()
        bid_NL[0] = bid_L
        won, paid = auction(bid_NL, slots, rule, 0)
        return float(value_NL[0, won].sum()) - paid

    # Only beating one more of the others' bids changes anything; the lattice is for good measure.
    levels = [0.0, *(value_NL[1:].flatten() + 1e-6), *np.linspace(0.1, 1.5, 6), *value_NL[0]]
    truthful = kept(tuple(value_NL[0]))
    most = max(kept(bids) for bids in itertools.product(levels, repeat=3)) - truthful

    config = ShadingConfig(withheld=[0, 1, 2, 3])
    found = deviations(
        config, build_mechanism(MechanismConfig(name=rule)), Values(value_LN, tariff), 0
    )
    assert found.truthful_rent[0] == pytest.approx(truthful, abs=1e-6) or rule == "vcg"
    joint = found[found.deviation == (BY_AGENT if rule == "vcg" else ALL_BIDS)]
    best = max(joint.gain.max(), 0.0)
    assert best <= most + 1e-6
    if rule == "vcg":
        assert most <= 1e-9
    elif rule == "uniform_price":
        assert best >= most - 1e-6  # withholding is the best answer
    else:
        assert best >= 0.85 * most > 0.1  # ceilings are a coarse grid


def test_orders_of_gains_that_are_known() -> None:
    generator = np.random.default_rng(1)
    rows = []
    for agents in (4, 8, 16, 64):
        for draw in range(40):
            noise = generator.lognormal(0, 0.1)
            for mechanism, gain in (
                ("uniform_price", 3 * noise / agents**2),
                ("first_price", 0.5 * noise),
                ("vcg", -noise),
            ):
                named = {"market": "m", "mechanism": mechanism, "deviation": ALL_BIDS}
                place = {"agents": agents, "seed": 0, "draw": draw, "uniform_rent": 1.0}
                lie = {"family": "shade", "level": 0.9, "gain": gain}
                rows.append({**named, **place, **lie})
                rows.append({**named, **place, **lie, "level": 0.1, "gain": -1.0})
    table = pd.DataFrame(rows)
    found = orders(table).set_index("mechanism")
    for mechanism, order in (("uniform_price", -2.0), ("first_price", 0.0)):
        at = found.loc[mechanism]
        assert at.low <= order <= at.high and at.high - at.low < 0.1
        gain = gains(table).query("mechanism == @mechanism and judged == 'best'")
        slope = np.polyfit(np.log(gain.agents), np.log(gain.value), 1)[0]
        assert at.order == pytest.approx(slope, abs=1e-9)
    assert np.isnan(found.order["vcg"]) and found.largest["vcg"] == 0
    fixed = gains(table).query("judged == 'fixed' and mechanism == 'vcg'")
    assert (fixed.value == 0).all() and (fixed.misreport == "truthful").all()


def test_what_an_agent_costs_the_others_by_trying_everything() -> None:
    """The pivot against all subsets of a small market."""
    generator = torch.Generator().manual_seed(4)
    value_LN = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.1
    flops_N = torch.tensor([300, 300, 700])
    real = torch.ones(1, 3, dtype=torch.bool)
    tariff = Tariff(flops_N[None, :, None], torch.zeros(0, dtype=torch.long), real)
    supply = int(tariff.dense_flops_BL.sum(1) // 3 * 3 * 0.5)

    def best(bids: torch.Tensor, without: int | None = None) -> tuple[float, float]:
        """Most that is served, and the others' part of it."""
        items = [(n, float(bids[t, n])) for t in range(3) for n in range(3) if n != without]
        top = (-1.0, 0.0)
        for picked in itertools.product((0, 1), repeat=len(items)):
            chosen = [item for item, take in zip(items, picked, strict=True) if take]
            if sum(int(flops_N[n]) for n, _ in chosen) <= supply:
                others = sum(value for n, value in chosen if n != 0)
                top = max(top, (sum(value for _, value in chosen), others))
        return top

    vcg = build_mechanism(MechanismConfig(name="vcg"))
    absent, _ = cleared(vcg, tariff, value_LN[None], 0.5, {}, absent=0)
    for factor in (1.0, 0.6):
        bid_LN = value_LN.clone()
        bid_LN[:, 0] *= factor
        clearing, _ = cleared(vcg, tariff, bid_LN[None], 0.5, {})
        kept = pivot_rent_B(clearing, bid_LN[None], value_LN[:, 0], 0, absent)
        total, others = best(bid_LN)
        served = (total - others) / factor
        expected = served - (best(bid_LN, without=0)[0] - others)
        assert float(kept) == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> ShadingConfig:
    return ShadingConfig.model_validate(
        {
            "markets": ["synthetic", "layer", "joint"],
            "agents": [3, 12],
            "layer_agents": [6],
            "tokens": 16,
            "draws": 4,
            "factors": [0.4, 0.7, 0.9],
            "withheld": [0, 1, 4],
            "ceilings": [0.9, 1.01, 1.2],
            "model": tiny_folder,
            "policy": "fisher",
            "block_size": 40,
            "rows": 2,
            "calibration_texts": 4,
            "seeds": [0],
        }
    )


@pytest.fixture(scope="module")
def run(config: ShadingConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_theory(run: Run) -> None:
    table = run.table("shading")
    vcg = table[table.mechanism == "vcg"]
    for deviation in (ONE_BID, BY_AGENT):
        assert vcg[vcg.deviation == deviation].gain.max() < 1e-6 * vcg.truthful_value.mean()
    first = table[(table.mechanism == "first_price") & (table.deviation == ALL_BIDS)]
    assert first.truthful_rent.abs().max() < 1e-6 * first.truthful_value.mean()
    best = first.groupby(["market", "agents", "draw"]).gain.max()
    assert (best > 0).mean() > 0.7
    rent = table.groupby(["mechanism", "market", "agents", "draw"]).uniform_rent.first().unstack(0)
    assert (rent.max(axis=1) == rent.min(axis=1)).all()  # the same markets for every mechanism


def test_same_seed_same_bytes(run: Run, config: ShadingConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, config, tmp_path / "two", False)
    one, other = run.path / "shading.parquet", again / "shading.parquet"
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "name", ["shading", "shading_table", "shading_orders", "shading_orders_table"]
)
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanisms": ["vgc"]}, "did you mean 'vcg'"),
        ({"policy": "tailor"}, "did you mean 'taylor'"),
        ({"factors": [0.5, 0.5]}, "repeats a value"),
        ({"withheld": [1, 1]}, "repeats a value"),
        ({"layer_agents": [99]}, "layer_agents: a layer market"),
        ({"model": "minilmm"}, "minilm"),
    ],
)
def test_bad_configs_are_one_line(
    config: ShadingConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = ShadingConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
