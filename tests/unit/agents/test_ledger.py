"""Every posting by hand, conservation, limits, the audit and the journal."""

from __future__ import annotations

import pytest
import torch

from agent_economy.agents.ledger import Ledger
from agent_economy.agents.population import Population
from agent_economy.errors import EconomyError


def books(endowment: float | torch.Tensor = 10.0, money: float | None = None) -> Ledger:
    """Four agents: two layers of one head and one block."""
    ledger = Ledger(Population(2, 1, 1), endowment, money)
    ledger.open()
    return ledger


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_open_mints_and_endows() -> None:
    ledger = books()
    assert ledger.wallet_A.tolist() == [10.0] * 4
    assert (ledger.treasury.item(), ledger.issued.item()) == (0.0, 40.0)
    assert ledger.balance.sum() == 0.0
    ledger.check()


def test_endowment_per_agent_and_reserve() -> None:
    ledger = books(f64(1, 2, 3, 4), money=25.0)
    assert ledger.wallet_A.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert (ledger.treasury.item(), ledger.issued.item()) == (15.0, 25.0)


def test_open_again_starts_over() -> None:
    ledger = books()
    ledger.pay(f64(1, 1, 1, 1))
    ledger.close_step()
    ledger.open()
    assert ledger.wallet_A.tolist() == [10.0] * 4
    assert ledger.journal().empty


@pytest.mark.parametrize(
    ("endowment", "money", "match"),
    [
        (-1.0, None, "endowment is -1"),
        (float("nan"), None, "endowment is nan"),
        (f64(1, 1, 1), None, r"shape \(3,\)"),
        (f64(1, 1, 1, -1), None, "lowest endowment"),
        (f64(1, 1, 1, float("inf")), None, "total endowment"),
        (10.0, 39.0, "does not cover"),
        (10.0, float("inf"), "money supply is inf"),
    ],
)
def test_bad_openings(endowment: float, money: float | None, match: str) -> None:
    with pytest.raises(EconomyError, match=match):
        books(endowment, money)


def test_postings_by_hand() -> None:
    ledger = books(money=50.0)
    population = ledger.population
    ledger.pay(f64(1, 2, 3, 4))
    assert ledger.wallet_A.tolist() == [9.0, 8.0, 7.0, 6.0]
    assert ledger.treasury == 20.0
    population.set_tax_rate([0, 1], 0.5)
    ledger.tax()
    assert ledger.wallet_A.tolist() == [4.5, 4.0, 7.0, 6.0]
    assert ledger.revenue == 18.5
    ledger.tax(f64(0, 0, 1, 0))
    assert ledger.wallet_A.tolist() == [4.5, 4.0, 0.0, 6.0]
    ledger.pay_income(f64(0.5, 0, 1, 0))
    ledger.bail_out(f64(0, 0, 1, 0))
    assert ledger.wallet_A.tolist() == [5.0, 4.0, 2.0, 6.0]
    ledger.confiscate(f64(1, 9, 0, 0))  # at most the wallet
    assert ledger.wallet_A.tolist() == [4.0, 0.0, 2.0, 6.0]
    assert (ledger.treasury.item(), ledger.issued.item()) == (38.0, 50.0)
    ledger.burn(30.0)
    assert (ledger.treasury.item(), ledger.issued.item()) == (8.0, 20.0)
    ledger.mint(2.0)
    ledger.grant(f64(0, 15, 0, 0))  # the treasury holds 10, so 5 are minted
    assert ledger.wallet_A.tolist() == [4.0, 15.0, 2.0, 6.0]
    assert (ledger.treasury.item(), ledger.issued.item()) == (0.0, 27.0)
    ledger.burn(100.0)  # at most what the treasury holds
    assert ledger.issued == 27.0
    assert population.payment_A.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert population.income_A.tolist() == [0.5, 0.0, 1.0, 0.0]
    ledger.check()


@pytest.mark.parametrize("pay_out", ["pay_income", "bail_out"])
def test_payouts_never_exceed_the_treasury(pay_out: str) -> None:
    ledger = books(money=46.0)
    getattr(ledger, pay_out)(f64(3, 6, 0, 9))
    torch.testing.assert_close(ledger.wallet_A, f64(11, 12, 10, 13))
    assert ledger.treasury.item() == pytest.approx(0.0, abs=1e-12)
    getattr(ledger, pay_out)(f64(3, 6, 0, 9))  # nothing is left
    torch.testing.assert_close(ledger.wallet_A, f64(11, 12, 10, 13))
    getattr(ledger, pay_out)(f64(0, 0, 0, 0))  # no division by nothing
    ledger.check()


def test_income_returned_is_what_was_paid() -> None:
    ledger = books(money=41.0)
    torch.testing.assert_close(ledger.pay_income(f64(2, 0, 0, 0)), f64(1, 0, 0, 0))


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_shocks_must_be_amounts(amount: float) -> None:
    ledger = books()
    for shock in (ledger.mint, ledger.burn):
        with pytest.raises(EconomyError, match="finite number of credits"):
            shock(amount)


def test_limits_split_the_wallet_over_rows() -> None:
    ledger = books(f64(8, 4, 2, 6))
    ledger.population.mute(2)
    assert ledger.limit_A(2).tolist() == [4.0, 2.0, 0.0, 3.0]
    limit_YBN = ledger.limit_YBN(2, torch.float32)
    assert limit_YBN.shape == (2, 2, 2) and limit_YBN.dtype == torch.float32
    torch.testing.assert_close(limit_YBN[0, 1], torch.tensor([4.0, 2.0]), rtol=1e-5, atol=0)


def test_paying_up_to_a_float32_limit_overdraws_nobody() -> None:
    torch.manual_seed(0)
    ledger = Ledger(Population(6, 12, 12), torch.rand(144, dtype=torch.float64) * 1e3)
    ledger.open()
    rows, tokens = 7, 1024
    share_BLN = torch.rand(rows, tokens, 144)
    share_BLN /= share_BLN.sum(dim=1, keepdim=True)
    payment_BLN = share_BLN * ledger.limit_A(rows, torch.float32)
    ledger.pay(payment_BLN.sum(dim=(0, 1)))
    assert ledger.wallet_A.min() >= 0.0
    ledger.check()


class TestCheck:
    def test_finds_a_leak(self) -> None:
        ledger = books()
        ledger.wallet_A[1] += 1e-3
        with pytest.raises(EconomyError, match="not conserved"):
            ledger.check()

    def test_finds_an_overdraft_and_names_it(self) -> None:
        ledger = books()
        ledger.pay(f64(0, 0, 0, 10.001))
        with pytest.raises(EconomyError, match="L1 block 0 is overdrawn"):
            ledger.check()

    def test_finds_nan(self) -> None:
        ledger = books()
        ledger.pay(f64(0, float("nan"), 0, 0))
        with pytest.raises(EconomyError, match="not conserved"):
            ledger.check()

    def test_forgives_rounding(self) -> None:
        ledger = books()
        ledger.pay(f64(0, 0, 0, 10.0 + 1e-9))
        ledger.check()


class TestJournal:
    def test_totals_by_hand(self) -> None:
        ledger = books(money=50.0)
        ledger.pay(f64(1, 2, 3, 4))
        ledger.close_step()
        ledger.pay_income(f64(1, 1, 1, 1))
        ledger.burn(6.0)
        ledger.close_step()
        frame = ledger.journal()
        assert frame["step"].tolist() == [0, 1]
        assert frame["mint"].tolist() == [50.0, 0.0]
        assert frame["endowment"].tolist() == [40.0, 0.0]
        assert frame["payment"].tolist() == [10.0, 0.0]
        assert frame["income"].tolist() == [0.0, 4.0]
        assert frame["burn"].tolist() == [0.0, 6.0]
        assert frame["wallets"].tolist() == [30.0, 34.0]
        assert frame["treasury"].tolist() == [20.0, 10.0]

    def test_revenue_is_of_the_open_step(self) -> None:
        ledger = books()
        ledger.pay(f64(1, 2, 3, 4))
        assert ledger.revenue == 10.0
        ledger.close_step()
        assert ledger.revenue == 0.0

    def test_draining_forgets_rows_but_not_the_step(self) -> None:
        ledger = books()
        for _ in range(3):
            ledger.close_step()
        assert len(ledger.journal()) == 3
        assert len(ledger.journal(drain=True)) == 3
        assert ledger.journal().empty
        ledger.close_step()
        assert ledger.journal()["step"].tolist() == [3]


class TestState:
    def test_round_trip(self) -> None:
        ledger = books()
        ledger.pay(f64(1, 2, 3, 4))
        ledger.close_step()
        ledger.pay(f64(1, 1, 1, 1))
        other = books(1.0)
        view = other.wallet_A[3]
        other.load_state_dict(ledger.state_dict())
        assert view == 5.0
        for each in (ledger, other):
            each.close_step()
            each.check()
        assert torch.equal(ledger.balance, other.balance)
        assert ledger.journal().equals(other.journal())

    def test_empty_journal(self) -> None:
        other = books()
        other.load_state_dict(books().state_dict())
        assert other.journal().empty

    def test_another_size(self) -> None:
        with pytest.raises(EconomyError, match="4 wallets, expected 6"):
            Ledger(Population(3, 1, 1), 1.0).load_state_dict(books().state_dict())
