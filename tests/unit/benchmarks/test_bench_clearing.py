"""The bench runs end to end in its quick form, and its solvers solve what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import linear_welfare

from agent_economy.mechanisms import MECHANISMS
from agent_economy.mechanisms.fisher_market import FisherMarket
from agent_economy.mechanisms.goods import Goods
from benchmarks import clearing, forward, scaling, solvers, tables
from benchmarks.markets import SIZES, mechanisms, order
from benchmarks.row import Row


def test_every_mechanism_is_timed_in_every_scope() -> None:
    own = {
        f"{name}/{scope}"
        for name, member in MECHANISMS.members().items()
        if member.__module__.startswith("agent_economy.")
        for scope in member.scopes
    }
    assert set(mechanisms()) == own and len(own) >= 25


@pytest.mark.parametrize("size", list(SIZES)[:3])
def test_a_market_has_as_many_bids_as_it_says(size: int) -> None:
    job = order(*SIZES[size])
    assert abs(job.bids / size - 1) < 0.01
    assert job.supply_flops_BL.sum() < 0.41 * job.tariff.dense_flops_BL.sum()


def test_a_row_s_linear_program_is_the_oracle_s() -> None:
    job = order(2, 5, 1)
    for b in range(2):
        only = order(2, 5, 1)._replace(
            bid_BLN=job.bid_BLN[b : b + 1],
            tariff=order(1, 5, 1).tariff,
            supply_flops_BL=job.supply_flops_BL[b : b + 1],
            limit_BN=job.limit_BN[b : b + 1],
        )
        solved = solvers.linear_program(job, b, 60.0)
        assert solved.value is not None and solved.seconds > 0
        expected = linear_welfare(Goods.of(*only, "sequence"))
        np.testing.assert_allclose(solved.value, [expected], rtol=1e-7)


def test_a_row_s_eisenberg_gale_program_is_the_fisher_market() -> None:
    pytest.importorskip("cvxpy")
    job = order(2, 6, 1)
    market = FisherMarket()
    state = market.initial_state(24, 12, 0)
    soft, _ = market.relax(*job, state, temperature=1.0)
    ours_BN = (soft.allocation_BLN.double() * job.bid_BLN.double()).sum(1).numpy()
    solved = solvers.eisenberg_gale(job, 1, 60.0)
    assert solved.value is not None
    np.testing.assert_allclose(ours_BN[1], solved.value, rtol=1e-4, atol=1e-6)


def test_a_solver_out_of_time_has_no_answer() -> None:
    assert solvers.linear_program(order(1, 70), 0, 1e-3).value is None


def test_without_cvxpy_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(solvers, "find_spec", lambda name: None)
    rows = solvers.rows(quick=True)
    assert {each["candidate"] for each in rows} == {solvers.HIGHS}
    said = [line for line in capsys.readouterr().err.splitlines() if "cvxpy" in line]
    assert len(said) == 1 and "pip install 'agent-economy[test]'" in said[0]


def test_the_quick_form_answers_all_questions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a few mechanisms of each kind; every one of them has a contract elsewhere."""
    some = {
        name: mechanism
        for name, mechanism in mechanisms().items()
        if name in {"uniform_price/sequence", "fisher_market/batch", "posted_price/sequence"}
    }
    for module in (forward, scaling):
        monkeypatch.setattr(module, "mechanisms", lambda: some)
    monkeypatch.setattr(forward, "_minilm", Small)
    result = clearing.measured(quick=True)
    assert f"{torch.get_num_threads()} thread" in capsys.readouterr().err
    rows: list[Row] = result["rows"]
    assert {each["question"] for each in rows} == {"forward", "scale", "solver"}
    for each in rows:
        assert list(each) == list(rows[0])
        assert 0 < each["low_ms"] <= each["median_ms"] <= each["high_ms"]
    timed = [each for each in rows if each["question"] == "scale" and "/" in each["candidate"]]
    assert len(timed) == 2 * len(some)
    solved = {each["to"]: each["difference"] for each in rows if each["question"] == "solver"}
    assert abs(solved[solvers.SORTED]) < 1e-5
    assert -0.02 < solved[solvers.UNIFORM] <= 1e-6  # hard gates round down
    assert all(name in tables.markdown(result) for name in some)


class Small(torch.nn.Module):
    """Stands for MiniLM."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids * attention_mask).double().cumsum(-1)
