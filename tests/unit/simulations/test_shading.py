"""The shading study: a market solved by hand, theory, and the run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_economy.config import MechanismConfig
from agent_economy.costs.tariff import Tariff
from agent_economy.economy import build_mechanism
from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from simulations.shading import SCENARIO
from simulations.shading.cell import ALL_BIDS, BY_AGENT, ONE_BID, cleared, deviations, pivot_rent_B
from simulations.shading.config import ShadingConfig
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
    at = found.set_index("deviation")
    for deviation, gain in gains.items():
        assert at.gain[deviation] == pytest.approx(gain, abs=1e-6), deviation
    assert at.truthful_rent[ALL_BIDS] == pytest.approx(truthful_rent, abs=1e-6)
    assert at.uniform_rent[ALL_BIDS] == pytest.approx(6.5, abs=1e-6)


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
    ("change", "message"),
    [
        ({"mechanisms": ["vgc"]}, "did you mean 'vcg'"),
        ({"policy": "tailor"}, "did you mean 'taylor'"),
        ({"factors": [0.5, 0.5]}, "repeats a value"),
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
