"""Permits: contracts by hand, money that stays among agents, the run, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import assert_csv_draws_the_same

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from simulations.cap_and_trade import SCENARIO
from simulations.cap_and_trade.cell import _model
from simulations.cap_and_trade.config import CapAndTradeConfig
from simulations.cap_and_trade.permits import endowed_flops, matched, paid_credits, used_flops
from simulations.laboratory.session import Laboratory
from simulations.laboratory.shares import shares


def test_contracts_by_hand() -> None:
    """Sellers 0 (5) and 2 (4) in the order 2, 0; buyers 1 (6) and 3 (1) in the order 1, 3."""
    sells = torch.tensor([[5.0, 0, 4, 0]])
    buys = torch.tensor([[0.0, 6, 0, 1]])
    orders = torch.tensor([[2, 0, 1, 3]]), torch.tensor([[1, 3, 0, 2]])
    expected = torch.zeros(4, 4)
    expected[2, 1], expected[0, 1], expected[0, 3] = 4, 2, 1  # two of agent 0's stay unsold
    assert torch.equal(matched(sells, buys, *orders)[0], expected)


def test_any_order_serves_every_buyer() -> None:
    generator = torch.Generator().manual_seed(0)
    sells = torch.rand(50, 7, generator=generator).double()
    buys = torch.rand(50, 7, generator=generator).double()
    buys *= 0.9 * sells.sum(1, keepdim=True) / buys.sum(1, keepdim=True)
    orders = torch.rand(2, 50, 7, generator=generator).argsort(2)
    found = matched(sells, buys, *orders)
    assert torch.allclose(found.sum(1), buys) and (found.sum(2) <= sells + 1e-12).all()
    assert (found >= 0).all()


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> CapAndTradeConfig:
    return CapAndTradeConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 4,
            "batch_size": 3,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 20,
            "thin_credits": 10.0,
            "samples": 4,
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def session(config: CapAndTradeConfig) -> Laboratory:
    return Laboratory(config, lambda *args, **fields: None)


@pytest.mark.parametrize("rule", ["equal", "cost", "value"])
def test_permits_are_supply_and_money_stays(session: Laboratory, rule: str) -> None:
    share_A = shares(session, rule, 0, ahead=True)
    assert float(share_A.sum()) == pytest.approx(1) and (share_A > 0).all()
    model = _model(session, {"rule": rule, "purse": "thin", "seed": 0})
    ledger = model.economy.ledger
    for _ in range(3):
        before_A = ledger.wallet_A.clone()
        model.step()
        receipt = model.receipt
        endowed_BA, used_BA = endowed_flops(receipt, share_A), used_flops(receipt)
        assert (used_BA.sum(1) <= endowed_BA.sum(1) + 1e-6).all()
        total = float(used_BA.sum()) + receipt.market_flops
        assert total == pytest.approx(receipt.spend_flops)
        deal = model.contracts
        lacks_A = (used_BA - endowed_BA).clamp(min=0).sum(0)
        assert torch.allclose(deal.flops_AA.sum(0), lacks_A)
        change_A = deal.credits_AA.sum(0) - deal.credits_AA.sum(1)
        assert torch.allclose(ledger.wallet_A - before_A, change_A, atol=1e-9)
        assert (deal.credits_AA.sum(1) <= paid_credits(receipt).sum(0) + 1e-9).all()
        assert float(ledger.wallet_A.sum()) == pytest.approx(10.0 * len(share_A))
        assert abs(float(ledger.treasury)) < 1e-9
    ledger.check()


@pytest.fixture(scope="module")
def run(config: CapAndTradeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_who_holds_permits_moves_no_compute_where_credits_do_not_bind(run: Run) -> None:
    steps = run.table("permit_steps")
    keys = ["seed", "step", "row"]
    rich = steps[steps.purse == "rich"].pivot_table(index=keys, columns="rule", values="loss")
    assert (rich.max(axis=1) == rich.min(axis=1)).all()
    thin = steps[steps.purse == "thin"].pivot_table(index=keys, columns="rule", values="loss")
    assert (thin.max(axis=1) > thin.min(axis=1)).any()


def test_flows_add_up_to_the_agents_books(run: Run) -> None:
    flows, agents = run.table("permit_flows"), run.table("permit_agents")
    keys = ["rule", "purse", "seed"]
    paid = flows.groupby(keys).credits.sum()
    books = agents[agents.rule != "auction"].groupby(keys).paid_credits.sum()
    np.testing.assert_allclose(paid.sort_index(), books.sort_index(), rtol=1e-6)
    assert (flows.payer != flows.payee).all()
    sold = agents.groupby(keys)[["sold_gflops", "bought_gflops"]].sum()
    np.testing.assert_allclose(sold.sold_gflops, sold.bought_gflops)
    network = run.table("permit_network")
    shares = network[network.measure == "cyclic_share"].value
    inside = network[network.measure == "strong_flow"].value
    assert shares.between(0, 1).all() and (shares.to_numpy() <= inside.to_numpy() + 1e-9).all()


def test_same_seed_same_bytes(run: Run, config: CapAndTradeConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, config, tmp_path / "two", False)
    files = sorted(run.path.glob("permit_*.parquet"))
    assert files
    for file in files:
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["permits", "permit_network", "permit_triads", "permit_flows"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": ["equal", "equal"]}, "repeats a value"),
        ({"rules": ["value"], "policy": "constant"}, "needs a policy with calibrated values"),
    ],
)
def test_bad_configs_are_one_line(
    config: CapAndTradeConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = CapAndTradeConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
