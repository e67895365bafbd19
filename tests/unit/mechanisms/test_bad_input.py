"""Starved, silent and tiny markets: every mechanism and scope clears them soundly, hard and soft.

Sound: finite, within supply of the scope with FLOPs added up one by one, nothing for those who may
not trade, and nobody pays more than its wallet or what its served bids were worth.
"""

from __future__ import annotations

import pytest
import torch
from models import BLOCK_SIZE, tiny_batch, tiny_model
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.economy import Economy
from agent_economy.mechanisms import MECHANISMS, Clearing, Mechanism
from agent_economy.policies import Features, Policy
from agent_economy.testing.markets import Market
from agent_economy.testing.mechanism_contract import flops_spent, soft_flops_spent

MARKETS = [
    (name, scope)
    for name, member in MECHANISMS.members().items()
    if member.__module__.startswith("agent_economy.")
    for scope in member.scopes
]
HEAD_FLOPS, BLOCK_FLOPS, FEE = 300, 500, 100
LENGTHS = (5, 3)


def market(
    *,
    bid: float | None = None,
    limit: float = 1e30,
    supply: int | None = None,
    lengths: tuple[int, ...] = LENGTHS,
    heads: int = 2,
    blocks: int = 3,
    dtype: torch.dtype = torch.float64,
) -> Market:
    """A small market; bids are random unless given, supply is 0.4 of dense unless given per token.

    The bids are around one credit, at some 1e6 credits per GFLOP.
    """
    generator = torch.Generator().manual_seed(0)
    rows, length, agents = len(lengths), max(lengths), heads + blocks
    mask_BL = torch.arange(length) < torch.tensor(lengths)[:, None]
    flops_N = torch.tensor([HEAD_FLOPS] * heads + [BLOCK_FLOPS] * blocks)
    tariff = Tariff(
        flops_N[None, :, None].expand(rows, agents, 1).contiguous(),
        torch.full((heads,), FEE),
        mask_BL,
    )
    bid_BLN = torch.rand(rows, length, agents, generator=generator, dtype=dtype) + 0.1
    if bid is not None:
        bid_BLN = torch.full_like(bid_BLN, bid)
    if supply is None:
        supply_BL = (0.4 * tariff.dense_flops_BL).long()
    else:
        supply_BL = supply * mask_BL
    limit_BN = torch.full((rows, agents), limit, dtype=dtype)
    return Market(bid_BLN, tariff, supply_BL, torch.ones(agents, dtype=torch.bool), limit_BN)


BAD = {
    "empty wallets": market(limit=0.0),
    "all bids zero": market(bid=0.0),
    "all bids tiny": market(bid=1e-30),
    "no supply": market(supply=0),
    "less than any set-up fee": market(supply=FEE - 1),
    "less than any item": market(supply=HEAD_FLOPS - 1),
    "rows of one token": market(lengths=(1, 1, 1)),
    "one head alone": market(heads=1, blocks=0),
    "one block alone": market(heads=0, blocks=1),
    "one agent, one token, empty wallet": market(heads=0, blocks=1, lengths=(1,), limit=0.0),
    "an empty row": market(lengths=(4, 0)),
    "nothing but padding": market(lengths=(0, 1)).row(0),
    "zero bids, empty wallets, no supply": market(bid=0.0, limit=0.0, supply=0),
    "single precision, empty wallets": market(limit=0.0, dtype=torch.float32),
    "single precision, one FLOP": market(supply=1, dtype=torch.float32),
}


def supply_of(made: Market, scope: str) -> Tensor:
    supply_BL = made.supply_flops_BL.double()
    if scope == "token":
        return supply_BL
    return supply_BL.sum(1) if scope == "sequence" else supply_BL.sum().reshape(1)


def assert_sound(made: Market, mechanism: Mechanism, clearing: Clearing, *, hard: bool) -> None:
    gate_BLN = clearing.allocation_BLN
    for each in clearing:
        assert each.isfinite().all()
    assert ((gate_BLN >= 0) & (gate_BLN <= 1)).all()
    assert not gate_BLN[~made.may_BLN].any()
    assert (clearing.price >= 0).all()
    assert clearing.price.expand(gate_BLN.shape).shape == gate_BLN.shape
    if hard:
        assert ((gate_BLN == 0) | (gate_BLN == 1)).all()
        own_BL, fee_B = (torch.from_numpy(each).double() for each in flops_spent(made, gate_BLN))
    else:
        own_BL, fee_B = soft_flops_spent(made, gate_BLN.double())
    supply_BL = made.supply_flops_BL.double()
    # A soft gate is never quite 0: without any supply a trace is left.
    slack = 1e-9 if hard else 1e-3
    rounding = 1e-9 if hard else 1e-5
    spend, supply = own_BL.sum() + fee_B.sum(), supply_BL.sum()
    if mechanism.scope == "token":
        assert (own_BL <= supply_BL * (1 + rounding) + slack).all()
    if mechanism.scope != "batch":
        spend, supply = own_BL.sum(1) + fee_B, supply_BL.sum(1)
    if mechanism.guarantees.feasible:
        most = supply_of(made, mechanism.scope) * (1 + rounding) + slack
        assert (spend <= supply * (1 + rounding) + slack).all()
        assert (clearing.spend_flops <= most).all()
    paid_BN = clearing.payment_BLN.sum(1)
    worth_BN = (made.bid_BLN * gate_BLN).sum(1)
    loose = 1e-9 if made.bid_BLN.dtype == torch.float64 else 1e-5
    assert (paid_BN >= 0).all()
    assert (paid_BN <= made.limit_BN * (1 + loose)).all()
    assert (paid_BN <= worth_BN * (1 + loose)).all()


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize(("name", "scope"), MARKETS)
def test_a_bad_market_clears_soundly(name: str, scope: str, case: str) -> None:
    """Twice, so that what was learned from a bad market is used in it as well; warm, then cold."""
    made, mechanism = BAD[case], MECHANISMS.get(name)(scope)
    state = made.state(mechanism)
    for temperature in (made.temperature(10.0), made.temperature(1e-3)):
        bid_BLN = made.bid_BLN.clone().requires_grad_()
        soft, _ = made.bidding(bid_BLN).relax(mechanism, temperature, state)
        if soft.allocation_BLN.requires_grad:
            soft.allocation_BLN.sum().backward()
            assert bid_BLN.grad is None or bid_BLN.grad.isfinite().all()
        detached = Clearing(*(each.detach() for each in soft))
        assert_sound(made, mechanism, detached, hard=False)
        hard, state = made.clear(mechanism, state)
        assert_sound(made, mechanism, hard, hard=True)
        assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize(("name", "scope"), MARKETS)
def test_nobody_is_served_where_nothing_can_be(name: str, scope: str) -> None:
    """Supply of a whole row below the cheapest item."""
    mechanism = MECHANISMS.get(name)(scope)
    if not mechanism.guarantees.feasible:
        pytest.skip("it sells at its price, whatever the supply")
    made = market(lengths=(1, 1), supply=min(HEAD_FLOPS, BLOCK_FLOPS) // 2 - 1)
    clearing, _ = made.clear(mechanism)
    assert not clearing.allocation_BLN.any()
    assert not clearing.payment_BLN.any() and not clearing.spend_flops.any()


@pytest.mark.parametrize(("name", "scope"), MARKETS)
def test_one_agent_that_fits_is_served_for_nothing(name: str, scope: str) -> None:
    mechanism = MECHANISMS.get(name)(scope)
    made = market(heads=1, blocks=0, lengths=(1,), supply=HEAD_FLOPS + FEE, limit=0.0)
    clearing, _ = made.clear(mechanism)
    assert clearing.allocation_BLN.tolist() == [[[1.0]]]
    assert not clearing.payment_BLN.any()


# --- whole economies ----------------------------------------------------------------------------


class Silent(Policy):
    """Bids nothing."""

    def bid(self, features: Features) -> Tensor:
        return features.hidden_BLD.new_zeros(*features.hidden_BLD.shape[:2], len(features.agents_N))

    def flops_per_token(self, hidden: int, agents: int) -> int:
        return 0


def founded(name: str, scope: str, **changes: object) -> Economy:
    settings: dict[str, object] = {
        "block_size": BLOCK_SIZE,
        "budget_fraction": 0.5,
        "policy": {"name": "random"},
        "mechanism": {"name": name, "scope": scope},
    }
    return Economy.from_model(tiny_model("bert"), **{**settings, **changes})  # type: ignore[arg-type]


def assert_sound_forward(economy: Economy, batch: dict[str, Tensor]) -> None:
    output = economy(**batch)
    assert output[0].isfinite().all()
    receipt = output.receipt
    economy.ledger.check()
    assert (economy.ledger.wallet_A >= -1e-6).all()
    mask_BL = batch["attention_mask"].bool()
    for clearing in receipt.clearings:
        assert clearing is not None
        assert all(each.isfinite().all() for each in clearing)
        assert not clearing.allocation_BLN[~mask_BL].any()


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("name", "scope"), MARKETS)
@torch.no_grad()
def test_an_economy_runs_on_empty_wallets_silence_and_crumbs(
    name: str, scope: str, soft: bool
) -> None:
    economy = founded(name, scope)
    quiet = founded(name, scope)
    quiet.set_policy(Silent())
    if soft:
        economy.market.temperature = quiet.market.temperature = 1.0
    for budget in (0.5, 0.02, 0.0):
        quiet.market.budget_fraction = budget
        economy.market.budget_fraction = budget
        for each in (quiet, economy):
            for batch in (tiny_batch((1, 1)), tiny_batch()):
                economy.ledger.confiscate(economy.ledger.wallet_A.clone())
                assert_sound_forward(each, batch)
