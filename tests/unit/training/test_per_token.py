"""Per-token methods: spend has the gradient that it should have, prices follow their budgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.policies.learned import LearnedPolicy
from agent_economy.training import train as module
from agent_economy.training.finetune import finetune
from agent_economy.training.methods.per_token import expected_share
from agent_economy.training.methods.posted import KNOTS, Posted
from agent_economy.training.settings import FinetuneSettings, TrainSettings

Found = Callable[..., tuple[Posted, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> Found:
    """The method with its options, in double precision and without dropout, and some rows."""
    teacher = tmp_path_factory.mktemp("teacher") / "dense"
    finetune(
        FinetuneSettings(task="stsb", model=encoder, epochs=1, learning_rate=3e-3),
        teacher,
        data_dir=data,
    )

    def of(**options: Any) -> tuple[Posted, dict[str, Tensor]]:
        chosen = TrainSettings.model_validate(
            {
                "task": "stsb",
                "model": str(teacher),
                "method": {"name": "posted", "options": options},
                "budget": 0.5,
                "block_size": 16,
                "evidence": 32,
            }
        )
        opened = module._open(chosen, module._accelerator(chosen), data)
        method = opened.method
        assert isinstance(method, Posted)
        method.bench.model.double().eval()
        method.policy.double().eval()
        return method, opened.rows["train"].batch(torch.arange(6).numpy())[0]

    return of


def spend(method: Posted, inputs: dict[str, Tensor]) -> Tensor:
    share = method.run(inputs)[1]
    assert share is not None
    return share


def slopes(method: Posted, inputs: dict[str, Tensor], table: Tensor, place: Any) -> float:
    """Central differences of spend."""
    eps, found = 1e-5, []
    for side in (eps, -eps):
        with torch.no_grad():
            table[place] += side
            method.run(inputs)
            found.append(float(method._spend))
            table[place] -= side
    return (found[0] - found[1]) / (2 * eps)


def test_the_gradient_of_spend_is_that_of_finite_differences(founded: Found) -> None:
    method, inputs = founded(straight_through=False, price=0.4)
    method.begin(0.5, 0)
    policy = method.policy
    assert isinstance(policy, LearnedPolicy)

    def compared(table: Tensor, places: list[Any]) -> float:
        (gradient,) = torch.autograd.grad(spend(method, inputs), table)
        found = [slopes(method, inputs, table, place) for place in places]
        own = [float(gradient[place]) for place in places]
        assert own == pytest.approx(found, rel=1e-4, abs=1e-7)
        return max(map(abs, found))

    # Bids are the same for all tokens, so what a layer does to hidden states changes none.
    dear = [(y, n) for y in (0, 1) for n in range(8) if policy.density_YN[y, n] > 0.05]
    assert len(dear) > 12 and compared(policy.density_YN, dear) > 1e-2
    with torch.no_grad():  # the last layer's tokens differ; its bids change no hidden state
        policy.weight_YDN[1].normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    places = [(1, 3, 0), (1, 9, 2), (1, 20, 5), (1, 31, 7)]
    assert compared(policy.weight_YDN, places) > 1e-5


def test_expected_spend_is_a_sum_over_gates(founded: Found) -> None:
    method, inputs = founded(straight_through=False, price=0.4)
    method.begin(0.5, 0)
    with torch.no_grad():
        receipt = method._founded(**inputs).receipt
    total = dense = 0.0
    for layer, tariff in enumerate(receipt.tariffs):
        gate_BLN = receipt.allocation_BLN(layer).double()
        assert ((gate_BLN > 0) & (gate_BLN < 1)).any(), "gates are soft"
        tokens = (gate_BLN * tariff.token_flops_BNL.transpose(1, 2)).sum()
        widest_BH = gate_BLN[..., :4].amax(1)  # four heads with keys and values of their own
        total += float(tokens + (widest_BH * tariff.setup_flops_BU).sum())
        total += float(receipt.market_flops_Y[layer] * tariff.mask_BL.sum())
        dense += float(tariff.dense_flops_BL.sum())
    assert float(expected_share(receipt)) == pytest.approx(total / dense, rel=1e-9)


def test_hard_gates_spend_what_is_executed_and_their_gradient_is_borrowed(founded: Found) -> None:
    method, inputs = founded(price=0.4)
    method.begin(0.5, 0)
    share = spend(method, inputs)
    with torch.no_grad():
        receipt = method._founded(**inputs).receipt
    assert float(share.detach()) == pytest.approx(receipt.flops_fraction, rel=1e-7)
    policy = method.policy
    assert isinstance(policy, LearnedPolicy)
    (gradient,) = torch.autograd.grad(share, policy.density_YN)
    # Who is valued more buys more; who stands far from the price moves little.
    assert (gradient >= 0).all() and gradient.max() > 1e-3


def test_the_penalty_is_lambda_times_the_share(founded: Found) -> None:
    method, inputs = founded(price=0.4, penalty=2.5)
    method.begin(0.5, 0)
    share = spend(method, inputs)
    penalty = method.penalty(share)
    assert isinstance(penalty, Tensor) and penalty.item() == pytest.approx(2.5 * share.item())
    assert method.penalty(None) == 0.0
    assert founded(price=0.4)[0].penalty(share) == 0.0


def test_a_price_that_stands_is_not_moved(founded: Found) -> None:
    method, _ = founded(price=0.4, penalty=1.0)
    for step in range(3):
        method.begin(step / 3, step)
        assert float(method._founded.market.states[0]["price"]) == 0.4
        method.after(torch.tensor(0.9))
    assert float(method.price) == 0.4


def test_one_price_climbs_by_the_excess_of_spend(founded: Found) -> None:
    method, _ = founded(rate=0.1)
    method.begin(0.9, 5)
    assert method.budget == 0.5
    method.after(torch.tensor(0.6))
    assert float(method.price) == pytest.approx(0.02 * math.exp(0.1 * 0.2), rel=1e-6)
    method.after(torch.tensor(5.0))  # at most the whole rate
    assert float(method.price) == pytest.approx(0.02 * math.exp(0.1 * 0.2 + 0.1), rel=1e-6)


def test_every_budget_has_a_price_of_its_own(founded: Found) -> None:
    method, _ = founded(budgets=(0.2, 0.8), rate=0.1)
    assert method.price.shape == (KNOTS,) and (method.price.diff() <= 0).all(), "scarcer is dearer"
    method.price = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    for knot, price in enumerate((0.5, 0.4, 0.3, 0.2, 0.1)):
        budget = 0.2 * 4 ** (knot / 4)
        assert float(method.price_at(budget)) == pytest.approx(price)
    between = 0.2 * 4 ** (1.25 / 4)  # a quarter of the way from the second knot to the third
    expected = math.exp(0.75 * math.log(0.4) + 0.25 * math.log(0.3))
    assert float(method.price_at(between)) == pytest.approx(expected)
    assert float(method.price_at(0.1)) == pytest.approx(0.5), "beyond the ends it stays"

    method.budget = between
    method.after(torch.tensor(between * 1.4))
    moved = [math.exp(0.1 * 0.4 * share) for share in (0, 0.75, 0.25, 0, 0)]
    for price, before, factor in zip(method.price, (0.5, 0.4, 0.3, 0.2, 0.1), moved, strict=True):
        assert float(price) == pytest.approx(before * factor, rel=1e-6)


def test_bidders_are_told_the_budget_of_the_batch(founded: Found) -> None:
    method, inputs = founded(budgets=(0.2, 0.8))
    policy = method.policy
    assert isinstance(policy, LearnedPolicy) and policy.slope_YN.requires_grad
    budgets = []
    for step in range(40):
        method.begin(step / 40, step)
        assert method._founded.market.budget_fraction == method.budget
        posted = method._founded.market.states[0]["price"]
        assert torch.equal(posted, method.price_at(method.budget))
        budgets.append(method.budget)
    assert 0.2 <= min(budgets) < 0.3 and 0.6 < max(budgets) <= 0.8
    assert len(set(budgets)) == 40
    again = founded(budgets=(0.2, 0.8))[0]
    again.begin(7 / 40, 7)
    assert again.budget == budgets[7], "a resumed training draws the same"
    (gradient,) = torch.autograd.grad(spend(method, inputs), policy.slope_YN)
    assert gradient.abs().max() > 0


def test_wallets_are_deep_and_bind_once_somebody_empties_them(founded: Found) -> None:
    method, inputs = founded()
    method.begin(1.0, 0)
    economy = method.economy()
    wallet_A = economy.ledger.wallet_A.clone()
    with torch.no_grad():
        receipts = [economy(**inputs).receipt for _ in range(3)]
        assert len({receipt.spend_flops for receipt in receipts}) == 1
        # The books show what was paid, to the last forward.
        paid_A, income_A = economy.population.payment_A, economy.population.income_A
        assert (paid_A > 0).any()
        expected_A = wallet_A + 3 * (income_A - paid_A)
        torch.testing.assert_close(economy.ledger.wallet_A, expected_A, rtol=0, atol=1e-8)
        assert float((economy.ledger.wallet_A - wallet_A).abs().max()) > 1e-6
        economy.ledger.confiscate(economy.ledger.wallet_A - 0.5 * paid_A)
        dry = economy(**inputs).receipt
        assert dry.spend_flops < receipts[0].spend_flops
        economy.ledger.check()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"budgets": (0.5, 0.2)}, r"budgets = \(0.5, 0.2\).*smaller one first"),
        ({"budgets": (0.2, 0.8), "price": 0.3}, "a price above 0 or many budgets"),
        ({"price": -1.0}, "price = -1.0; give a price above 0"),
        ({"temperature": [0.1, 0.0]}, r"temperature = \[0.1, 0.0\]; give two numbers above 0"),
        ({"temperature": 0.1}, "temperature = 0.1; give two numbers above 0"),
        ({"penalty": "x"}, "penalty = 'x'; give a number, at least 0"),
        ({"penalty": -1.0}, "penalty = -1.0; give a number, at least 0"),
        ({"budgets": [0.3]}, r"budgets = \[0.3\]; give two in \(0, 1\]"),
        ({"straight_through": "yes"}, "straight_through = 'yes'; give true or false"),
    ],
)
def test_bad_options_are_refused(founded: Found, options: dict[str, Any], match: str) -> None:
    with pytest.raises(EconomyError, match=match):
        founded(**options)
