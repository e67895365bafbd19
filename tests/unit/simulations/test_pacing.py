"""Pacing: a linear program as oracle, online prices by hand, the run, its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linprog
from studies import assert_csv_draws_the_same, interrupted_and_resumed

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.pacing import exponents, growth
from simulations.pacing import SCENARIO
from simulations.pacing.auction import Auction, Pacer, hindsight, planned, smoothed
from simulations.pacing.config import PacingConfig
from simulations.pacing.streams import Pool, by_lot, drawn_streams


def market(seed: int = 0, draws: int = 3, length: int = 12, agents: int = 4) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    bid = torch.rand(draws, length, agents, generator=generator, dtype=torch.float64) + 0.1
    flops = torch.randint(1, 9, (draws, 1, agents), generator=generator).double()
    return bid, flops.expand(-1, length, -1)


def test_hindsight_is_the_linear_program() -> None:
    bid, flops = market()
    supply = 0.4 * flops.sum((1, 2))
    found = hindsight(bid, flops, supply)
    for draw in range(len(bid)):
        solved = linprog(
            -bid[draw].flatten().numpy(),
            A_ub=flops[draw].reshape(1, -1).numpy(),
            b_ub=[float(supply[draw])],
            bounds=(0, 1),
        )
        assert float(found.welfare_D[draw]) == pytest.approx(-solved.fun)
        assert float(found.price_D[draw]) == pytest.approx(-solved.ineqlin.marginals[0])


def pace(bid: Any, flops: Any, target: Any, price: Any, rate: float, supply: Any = None) -> Pacer:
    auction = Auction(bid, flops, target.sum(1) if supply is None else supply)
    pacer = Pacer(auction, "one", target, price, rate)
    while auction.running:
        auction.step()
    return pacer


def parts(pacer: Pacer) -> tuple[float, ...]:
    return float(pacer.mispriced_D), float(pacer.refused_D), float(pacer.unspent_D)


def test_pace_by_hand() -> None:
    """Supply 2 in three tokens; the price doubles when twice the plan is asked for."""
    bid = torch.tensor([[[3.0, 1.0], [3.0, 1.0], [9.0, 9.0]]]).double()
    flops = torch.ones_like(bid)
    target = torch.full((1, 3), 2 / 3, dtype=torch.float64)
    price = torch.tensor([0.5]).double()
    found = pace(bid, flops, target, price, rate=0.0)
    assert float(found.welfare_D) == 4 and float(found.spend_D) == 2  # all spent on the first

    dear = pace(bid, flops, target, torch.tensor([2.0]).double(), rate=0.0)
    assert float(dear.welfare_D) == 6  # the third token finds nothing left
    moved = pace(bid, flops, target, torch.tensor([2.0]).double(), rate=5.0 * 3**0.5)
    assert float(moved.welfare_D) == 12  # after one sale the price passes 3, then falls below 9


def test_parts_of_regret_by_hand() -> None:
    """Supply of 2 is best kept for the last token; the dual is the density of what follows, 3."""
    bid = torch.tensor([[[3.0, 1.0], [3.0, 1.0], [9.0, 9.0]]]).double()
    flops, target = torch.ones_like(bid), torch.full((1, 3), 2 / 3, dtype=torch.float64)
    dear = pace(bid, flops, target, torch.tensor([2.0]).double(), rate=0.0)
    assert parts(dear) == pytest.approx((0, 12, 0))
    idle = pace(bid, flops, target, torch.tensor([10.0]).double(), rate=0.0)
    assert parts(idle) == pytest.approx((12, 0, 6))


def test_no_online_price_beats_hindsight_or_overspends() -> None:
    bid, flops = market(1, draws=40, length=60)
    supply = 0.3 * flops.sum((1, 2))
    best = hindsight(bid, flops, supply)
    even = (supply / 60)[:, None].expand(-1, 60)
    for price in (best.price_D, torch.zeros_like(supply) + 0.05, best.price_D * 3):
        for rate in (0.0, 1.0):
            sold = pace(bid, flops, even, price, rate, supply)
            assert (sold.spend_D <= supply + 1e-9).all()
            assert (sold.welfare_D <= best.welfare_D + 1e-9).all()
            lost = sold.mispriced_D + sold.refused_D + sold.unspent_D
            torch.testing.assert_close(lost, best.welfare_D - sold.welfare_D)
            assert (sold.mispriced_D >= 0).all() and (sold.unspent_D >= -1e-9).all()
    known = pace(bid, flops, even, best.price_D, 0.0, supply)
    # The best fixed price loses at most the items that straddle supply.
    assert (best.welfare_D - known.welfare_D <= 2 * bid.amax((1, 2)) * 4).all()
    assert (known.mispriced_D < 1e-9).all()


def test_regret_grows_as_the_square_root_where_tokens_come_by_lot() -> None:
    """The theory's own case: independent tokens, steps of one over the root of the length."""
    rows = []
    for length in (64, 256, 1024):
        bid, flops = market(length, draws=32, length=length)
        supply = 0.3 * flops.sum((1, 2))
        even = (supply / length)[:, None].expand(-1, length)
        first = torch.full_like(supply, 0.05)
        found = pace(bid, flops, even, first, rate=1.0)
        regret = found.model.best.welfare_D - found.welfare_D
        rows += [
            {"order": "mixed", "method": "one", "tokens": length, "draw": draw, "seed": 0,
             "regret": float(each), "optimum": 1.0, "mispriced": 1.0, "refused": 0.0,
             "unspent": 0.0, "spend_share": 1.0, "first_price": 1.0, "price_error": 0.0}
            for draw, each in enumerate(regret)
        ]  # fmt: skip
    slope = exponents(growth(pd.DataFrame(rows)))["mean"].item()
    assert 0.3 < slope < 0.7


def test_a_plan_spends_supply_where_the_sample_did() -> None:
    bid, flops = market(2)
    bid[:, :6] *= 0.01  # everything is worth it in the second half only
    supply = 0.25 * flops.sum((1, 2))
    plan = planned(bid, flops, hindsight(bid, flops, supply).price_D, supply)
    torch.testing.assert_close(plan.sum(1), supply)
    assert (plan[:, :6].sum(1) < 0.05 * supply).all()
    smooth = smoothed(plan, 3, supply)
    torch.testing.assert_close(smooth.sum(1), supply)
    inner = torch.stack([plan[:, :-2], plan[:, 1:-1], plan[:, 2:]]).mean(0)
    scale = smooth[:, 1:-1].sum(1, keepdim=True) / inner.sum(1, keepdim=True)
    torch.testing.assert_close(smooth[:, 1:-1], inner * scale)


def test_orders_of_texts() -> None:
    bid = torch.arange(12).double()[:, None].repeat(1, 2)
    pool = Pool(bid, torch.ones(12, 2).double(), torch.tensor([3] * 4), torch.tensor([0, 0, 1, 1]))
    generator = torch.Generator().manual_seed(0)
    halves = by_lot(pool, "sources", 20, generator)
    assert (halves[:10] < 6).all() and (halves[10:] >= 6).all() and len(halves) == 20
    rising = by_lot(pool, "rising", 20, generator)
    assert (rising.diff() >= 0).all() and len(rising) == 20
    single = by_lot(pool, "tokens", 200, generator)
    assert set(single.tolist()) == set(range(12)) and (single.diff() < 0).sum() > 50
    assert set(by_lot(pool, "mixed", 200, generator).tolist()) == set(range(12))
    streams, samples = drawn_streams(pool, "written", 5, 40, seed=0)
    for one, other in zip(streams, samples, strict=True):
        assert (one.diff() == 1).all() and (other.diff() == 1).all()
        assert int(one[0]) % 3 == 0 and not set(one.tolist()) & set(other.tolist())
    assert {0, 6} <= set(streams[:, 0].tolist())  # both halves are streams in their turn


def test_exponents_of_known_growth() -> None:
    rows = [
        {"order": "mixed", "method": method, "tokens": tokens, "draw": draw, "seed": seed,
         "regret": (1 + 0.1 * (-1) ** draw) * (1 + seed) * tokens**power, "optimum": 9.0 * tokens,
         "mispriced": tokens**power, "refused": -1.0, "unspent": 0.0, "spend_share": 1.0,
         "first_price": 2.0, "price_error": 0.1}
        for method, power in (("one", 0.5), ("two", 1.0))
        for tokens in (64, 256, 1024)
        for seed in (0, 1)
        for draw in range(8)
    ]  # fmt: skip
    data = growth(pd.DataFrame(rows))
    found = exponents(data).set_index("method")
    assert found.loc["one", "mean"] == pytest.approx(0.5)
    assert found.loc["two", "low"] < 1 < found.loc["two", "high"]
    at = data.query("method == 'two' and tokens == 256").set_index("measure")
    assert at.loc["regret", "mean"] == pytest.approx(1.5 / 9)  # a share of the optimum
    # Seeds differ by a factor of two and there are two: the interval spans both.
    assert at.loc["credits", "low"] < 1.05 * 256 and at.loc["credits", "high"] > 1.95 * 256
    assert "refused" not in set(data[data.tokens == 0].measure)  # no logarithm of a gain


@pytest.fixture(scope="module")
def config(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> PacingConfig:
    other = tmp_path_factory.mktemp("texts") / "other.txt"
    sentence = "a quiet river runs past the old mill and nobody minds the noise it makes. "
    other.write_text("\n\n".join(f"{n} {sentence * 4}" for n in range(12)))
    return PacingConfig.model_validate(
        {
            "model": tiny_folder,
            "other_text": str(other),
            "batch_size": 4,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 40,
            "lengths": [32, 64],
            "draws": 4,
            "pool_texts": 4,
            "written_texts": 10,
            "orders": ["written", "mixed", "sources", "tokens", "rising"],
            "seeds": [0],
        }
    )


@pytest.fixture(scope="module")
def run(config: PacingConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_the_run(run: Run, config: PacingConfig, tmp_path: Path) -> None:
    table = run.table("pacing")
    assert (table.regret >= -1e-9).all() and (table.spend_share <= 1 + 1e-9).all()
    assert set(table.order) == {*config.orders}
    parts = table[["mispriced", "refused", "unspent"]].sum(axis=1)
    np.testing.assert_allclose(parts, table.regret, atol=1e-6)
    assert (table[table.method == "hindsight"].first_price == 1).all()
    mean = table.groupby("method").regret.mean()
    assert mean["hindsight"] < mean["no_sample"]
    same = table.pivot_table(
        index=["order", "tokens", "seed", "draw"], columns="method", values="optimum"
    )
    np.testing.assert_array_equal(same.min(axis=1), same.max(axis=1))


def test_a_killed_run_resumes_to_the_same_bytes(
    run: Run, config: PacingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.pacing.cell as cell

    again = interrupted_and_resumed(SCENARIO, config, cell, tmp_path / "two", monkeypatch, at=4)
    file = "pacing.parquet"
    assert (run.path / file).read_bytes() == (again / file).read_bytes()


@pytest.mark.parametrize("name", ["pacing", "pacing_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": [64, 64]}, "repeats a value"),
        ({"policy": "tailor"}, "did you mean 'taylor'"),
        ({"other_text": "wikitext-3"}, "did you mean 'wikitext"),
        ({"lengths": [64, 4096]}, "raise it, or shorten lengths"),
    ],
)
def test_bad_configs_are_one_line(
    config: PacingConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = PacingConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
