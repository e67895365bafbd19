"""What every mechanism must keep: inherit ``MechanismContract`` and give ``make``.

Each clause is one property test over small awkward markets (``markets``). Clauses that belong to a
declared guarantee are skipped where ``Mechanism.guarantees`` does not declare it. How many cases
are tried is Hypothesis' own setting: load a profile before this module is imported.

Example, a whole test file::

    from agent_economy.testing import MechanismContract
    from my_package import MyMechanism

    class TestMyMechanism(MechanismContract):
        def make(self):
            return MyMechanism(scope="sequence")
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms.base import Mechanism, State
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Clearing
from agent_economy.mechanisms.optimum import optimum
from agent_economy.testing.markets import Market, markets, no_ties, relabelled_state, relabellings

#: Inherited tests run from several classes, which is the point of a contract.
_contract = settings(
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ]
)
_SCARCE = st.floats(0.05, 0.9)
_TEMPERATURES = st.sampled_from([0.05, 0.3, 1.0])
#: Colder, demand is flat between bids and finite differences of the price are rounding noise.
_WARM = st.sampled_from([0.2, 0.5, 1.0])
#: Rounding of sums of credits, relative.
_ROUNDING = 1e-9


class MechanismContract:
    """Property tests that a mechanism inherits; see the module's heading."""

    def make(self) -> Mechanism:
        """The mechanism under test, in the scope under test."""
        raise NotImplementedError("a contract test class gives make() -> Mechanism")

    # --- every mechanism -----------------------------------------------------------------------

    @_contract
    @given(market=markets(), forwards=st.integers(0, 2))
    def test_spends_at_most_supply(self, market: Market, forwards: int) -> None:
        """Hard spend, set-up included, added up independently, keeps to supply in the scope."""
        mechanism = self._promising("feasible")
        clearing, _ = market.clear(mechanism, _warm(mechanism, market, forwards))
        own_BL, fee_B = flops_spent(market, clearing.allocation_BLN)
        supply_BL = market.supply_flops_BL.numpy()
        spend = clearing.spend_flops.numpy()
        if mechanism.scope == "token":
            # Fees of a row are split over its tokens, rounded up: at most one FLOP a token.
            row_B = own_BL.sum(1) + fee_B
            assert (spend <= supply_BL).all()
            assert (spend >= own_BL).all()
            assert (spend.sum(1) >= row_B).all()
            assert (spend.sum(1) <= row_B + market.context_B1.squeeze(1).numpy()).all()
        else:
            spend_M, supply_M = own_BL.sum(1) + fee_B, supply_BL.sum(1)
            if mechanism.scope == "batch":
                spend_M, supply_M = spend_M.sum(keepdims=True), supply_M.sum(keepdims=True)
            assert (spend_M <= supply_M).all()
            assert spend.tolist() == spend_M.tolist()

    @_contract
    @given(market=markets(), forwards=st.integers(0, 2))
    def test_gates_are_0_or_1_and_prices_not_negative(self, market: Market, forwards: int) -> None:
        """Shapes and ranges; welfare is the declared value of what is served."""
        mechanism = self.make()
        clearing, _ = market.clear(mechanism, _warm(mechanism, market, forwards))
        assert clearing.allocation_BLN.shape == market.bid_BLN.shape
        assert ((clearing.allocation_BLN == 0) | (clearing.allocation_BLN == 1)).all()
        assert (clearing.price >= 0).all() and clearing.price.isfinite().all()
        torch.broadcast_to(clearing.price, market.bid_BLN.shape)
        welfare = (market.bid_BLN * clearing.allocation_BLN).sum()
        assert torch.isclose(clearing.welfare.sum(), welfare)

    @_contract
    @given(market=markets(), forwards=st.integers(0, 2))
    def test_padding_and_muted_agents_get_nothing(self, market: Market, forwards: int) -> None:
        """Neither service nor bills."""
        mechanism = self.make()
        clearing, _ = market.clear(mechanism, _warm(mechanism, market, forwards))
        _assert_outsiders_get_nothing(market, clearing)

    @_contract
    @given(market=markets(), forwards=st.integers(0, 2))
    def test_nobody_pays_more_than_it_bid_or_may_spend(self, market: Market, forwards: int) -> None:
        """Payments keep to limits and to the bids served, per row and agent."""
        mechanism = self.make()
        clearing, _ = market.clear(mechanism, _warm(mechanism, market, forwards))
        _assert_payable(market, clearing)

    @_contract
    @given(market=markets(), fraction=st.sampled_from([1.0, 1.3]), forwards=st.integers(0, 1))
    def test_free_at_full_supply(self, market: Market, fraction: float, forwards: int) -> None:
        """Dense supply serves everybody at price 0."""
        mechanism = self.make()
        state = _warm(mechanism, market, forwards)
        _assert_free(market, market.supplied(fraction).clear(mechanism, state)[0])

    @_contract
    @given(market=markets())
    def test_free_as_soon_as_everything_fits(self, market: Market) -> None:
        """Just enough supply for those who are not muted serves them at price 0."""
        mechanism = self.make()
        if mechanism.guarantees.causal:
            pytest.skip("whether the whole row fits cannot be known when it begins")
        _assert_free(market, _just_enough(market).clear(mechanism)[0])

    @_contract
    @given(market=markets(), forwards=st.integers(0, 2))
    def test_nothing_at_zero_supply(self, market: Market, forwards: int) -> None:
        """Without supply nobody is served or pays."""
        mechanism = self.make()
        state = _warm(mechanism, market, forwards)
        clearing, _ = market.supplied(0.0).clear(mechanism, state)
        assert not clearing.allocation_BLN.any()
        assert not clearing.payment_BLN.any()
        assert not clearing.spend_flops.any()

    @_contract
    @given(market=markets())
    def test_deterministic(self, market: Market) -> None:
        """The same market clears to the same bits."""
        first, state = market.clear(self.make())
        again, same = market.clear(self.make())
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
        assert state.keys() == same.keys()
        assert all(torch.equal(state[key], same[key]) for key in state)

    @_contract
    @given(market=markets(), temperature=_TEMPERATURES, forwards=st.integers(0, 1))
    def test_rows_are_independent(self, market: Market, temperature: float, forwards: int) -> None:
        """A row by itself clears as it does in a batch."""
        mechanism = self.make()
        if mechanism.scope == "batch":
            pytest.skip("one budget for the whole batch")
        state = _warm(mechanism, market, forwards)
        heat = market.temperature(temperature)
        hard, soft = _both(market, mechanism, heat, state)
        # The last row has the others before it.
        hard_row, soft_row = _both(market.row(-1), mechanism, heat, state)
        assert torch.equal(hard.allocation_BLN[-1], hard_row.allocation_BLN[0])
        _close(soft.allocation_BLN[-1], soft_row.allocation_BLN[0])

    @_contract
    @given(
        market=markets(zeros=False, mutes=False, tight=False, fractions=_SCARCE),
        units=st.integers(0, 3),
        agents=st.integers(2, 5),
    )
    def test_ties_go_to_the_lower_index(self, market: Market, units: int, agents: int) -> None:
        """Of identical agents the lower index is served first, unless lots decide."""
        mechanism = self._promising("equivariant")
        if mechanism.guarantees.seeded:
            pytest.skip("ties are settled by lot")
        market = _identical(market, units, agents)
        served_BN = market.clear(mechanism)[0].allocation_BLN.sum(1)
        assert (served_BN[:, :units].diff(dim=1) <= 0).all()
        assert (served_BN[:, units:].diff(dim=1) <= 0).all()

    @_contract
    @given(market=markets(), bad=st.sampled_from([math.nan, math.inf, -math.inf, -1e-9]))
    def test_refuses_bids_that_are_not_numbers(self, market: Market, bad: float) -> None:
        """NaN, infinite and negative bids are the caller's error."""
        bid_BLN = market.bid_BLN.clone()
        bid_BLN[-1, 0, -1] = bad
        with pytest.raises(EconomyError, match="bids must be finite"):
            market.bidding(bid_BLN).clear(self.make())

    @_contract
    @given(data=st.data(), market=markets())
    def test_the_state_goes_round(self, data: st.DataObject, market: Market) -> None:
        """What one clearing returns the next one takes, within supply."""
        mechanism = self._promising("feasible")
        state = market.state(mechanism)
        supply = int(market.supply_flops_BL.sum())
        for _ in range(4):
            clearing, state = market.clear(mechanism, state)
            own_BL, fee_B = flops_spent(market, clearing.allocation_BLN)
            assert own_BL.sum() + fee_B.sum() <= supply
            assert all(value.isfinite().all() for value in state.values())
            market = market.bidding(market.bid_BLN * data.draw(st.floats(0.5, 2.0)))

    # --- declared guarantees -------------------------------------------------------------------

    @_contract
    @given(
        data=st.data(),
        market=markets(zeros=False, mutes=False),
        temperature=_TEMPERATURES,
        forwards=st.integers(0, 1),
    )
    def test_relabelling_agents_relabels_the_result(
        self, data: st.DataObject, market: Market, temperature: float, forwards: int
    ) -> None:
        """Units, agents inside a unit, and agents without a fee may change places."""
        mechanism = self._promising("equivariant")
        other, old_N, old_U = data.draw(relabellings(market))
        heat = market.temperature(temperature)
        state = _warm(mechanism, market, forwards)
        one = _both(market, mechanism, heat, state)
        two = _both(other, mechanism, heat, relabelled_state(state, old_N, old_U))
        assert torch.equal(one[0].allocation_BLN[..., old_N], two[0].allocation_BLN)
        _close(one[0].payment_BLN[..., old_N], two[0].payment_BLN)
        _close(one[1].allocation_BLN[..., old_N], two[1].allocation_BLN)

    @_contract
    @given(
        data=st.data(),
        market=markets(fractions=_SCARCE, tight=False),
        factor=st.sampled_from([1.02, 1.5, 4.0, 40.0]),
        forwards=st.integers(0, 2),
    )
    def test_a_higher_bid_keeps_what_it_won(
        self, data: st.DataObject, market: Market, factor: float, forwards: int
    ) -> None:
        """With wallets slack: where one binds, a higher bid lowers the agent's other bids."""
        mechanism = self._promising("monotone")
        state = _warm(mechanism, market, forwards)
        won = market.clear(mechanism, state)[0].allocation_BLN.nonzero()
        assume(len(won))
        b, token, n = data.draw(st.sampled_from(won.tolist()))
        bid_BLN = market.bid_BLN.clone()
        bid_BLN[b, token, n] = bid_BLN[b, token, n] * factor
        raised = market.bidding(bid_BLN)
        assume(no_ties(raised))
        assert raised.clear(mechanism, state)[0].allocation_BLN[b, token, n] == 1

    @_contract
    @given(
        data=st.data(),
        market=markets(),
        temperature=_TEMPERATURES,
        forwards=st.integers(0, 2),
    )
    def test_later_tokens_change_nothing_earlier(
        self, data: st.DataObject, market: Market, temperature: float, forwards: int
    ) -> None:
        """Neither other bids later on nor a row that ends earlier."""
        mechanism = self._promising("causal")
        length = market.bid_BLN.shape[1]
        assume(length > 1)
        state = _warm(mechanism, market, forwards)
        first = data.draw(st.integers(1, length - 1))
        bid_BLN = market.bid_BLN.clone()
        bid_BLN[:, first:] = bid_BLN[:, first:].flip(1) * data.draw(st.floats(0.0, 50.0))
        heat = market.temperature(temperature)
        one = _both(market, mechanism, heat, state)
        for other in (market.bidding(bid_BLN), market.cut(first)):
            two = _both(other, mechanism, heat, state)
            for before, after in zip(one, two, strict=True):
                _close(before.allocation_BLN[:, :first], after.allocation_BLN[:, :first])

    @_contract
    @given(
        market=markets(),
        temperature=_TEMPERATURES,
        forwards=st.integers(0, 1),
        learns=st.booleans(),
    )
    def test_soft_gates_keep_to_supply(
        self, market: Market, temperature: float, forwards: int, learns: bool
    ) -> None:
        """The relaxed form is feasible, payable and free at full supply."""
        mechanism = self._promising("feasible")
        heat = market.temperature(temperature)
        state = _warm(mechanism, market, forwards)
        bid_BLN = market.bid_BLN.clone().requires_grad_(learns)
        soft = market.bidding(bid_BLN).relax(mechanism, heat, state)[0]
        clearing = Clearing(*(each.detach() for each in soft))
        assert ((clearing.allocation_BLN >= 0) & (clearing.allocation_BLN <= 1)).all()
        assert (clearing.price >= 0).all() and clearing.price.isfinite().all()
        _assert_outsiders_get_nothing(market, clearing)
        _assert_payable(market, clearing)
        supply = market.supply_flops_BL
        if mechanism.scope == "sequence":
            supply = supply.sum(1)
        elif mechanism.scope == "batch":
            supply = supply.sum().reshape(1)
        # A soft gate is never quite 0: without any supply a trace is left.
        assert (clearing.spend_flops <= supply * (1 + 1e-6) + 1e-3).all()
        if (supply.sum() > 0) and (market.supply_flops_BL >= market.tariff.dense_flops_BL).all():
            _assert_free(market, clearing)

    @_contract
    @given(
        market=markets(fractions=st.floats(0.1, 0.9), zeros=False, max_tokens=4),
        temperature=_WARM,
        forwards=st.integers(0, 1),
    )
    def test_gradients_of_gates_and_price(
        self, market: Market, temperature: float, forwards: int
    ) -> None:
        """Autograd against finite differences, in float64."""
        mechanism = self._promising("differentiable")
        if mechanism.guarantees.straight_through:
            pytest.skip("a borrowed gradient is not the gradient")
        heat = market.temperature(temperature)
        state = _warm(mechanism, market, forwards)

        def gates_and_price(bid_BLN: Tensor) -> Tensor:
            clearing, _ = market.bidding(bid_BLN).relax(mechanism, heat, state)
            return torch.cat((clearing.allocation_BLN.flatten(), clearing.price.flatten() / heat))

        bid_BLN = market.bid_BLN.clone().requires_grad_()
        assert torch.autograd.gradcheck(
            gates_and_price, (bid_BLN,), fast_mode=True, check_undefined_grad=False
        )

    @_contract
    @given(market=markets(fractions=_SCARCE, tight=False))
    def test_cold_gates_reach_the_linear_program(self, market: Market) -> None:
        """As the temperature falls, welfare is optimal and what has a price sold out."""
        mechanism = self._promising("lp_limit")
        scope = mechanism.scope
        if scope == "token":
            # The program of a token knows no fees; a row of one token is its market.
            market, scope = market.without_fees(), "sequence"
            best = optimum(market.token_by_token().goods(scope))
        else:
            best = optimum(market.goods(scope))
        heat = market.temperature(1e-4)
        clearing, _ = market.relax(mechanism, heat)
        welfare_M, price_M = clearing.welfare.flatten(), clearing.price.flatten()
        assert torch.allclose(welfare_M, best.welfare_M, rtol=0.01, atol=1e-9)
        # Complementary slackness: what has a price, not just a few degrees, is sold out.
        own_BL, fee_B = soft_flops_spent(market, clearing.allocation_BLN)
        spend, supply = own_BL, market.supply_flops_BL.double()
        if mechanism.scope != "token":
            spend, supply = own_BL.sum(1) + fee_B, supply.sum(1)
        if mechanism.scope == "batch":
            spend, supply = spend.sum(0, keepdim=True), supply.sum(0, keepdim=True)
        idle_M = 1 - spend.flatten() / supply.flatten().clamp(min=1)
        assert (idle_M[(price_M > 50 * heat) & (supply.flatten() > 0)] <= 0.01).all()

    @_contract
    @given(market=markets(fractions=_SCARCE), temperature=_TEMPERATURES)
    def test_what_has_a_price_is_sold_out(self, market: Market, temperature: float) -> None:
        """Complementary slackness of the shares: price times unsold supply is 0, budget by budget.

        Fees of open units count as sold, also those of a unit whose shares came to nothing.
        """
        mechanism = self._promising("sells_out")
        market = market.without_fees()
        clearing, _ = market.relax(mechanism, market.temperature(temperature))
        own_BL, _ = soft_flops_spent(market, clearing.allocation_BLN)
        supply_BL = market.supply_flops_BL.double()
        price = clearing.price.expand(*own_BL.shape, -1).amax(-1)
        if mechanism.scope != "token":
            own_BL, supply_BL, price = own_BL.sum(1), supply_BL.sum(1), price.amax(1)
        if mechanism.scope == "batch":
            own_BL, supply_BL, price = own_BL.sum(), supply_BL.sum(), price.amax()
        unsold = (supply_BL - own_BL) / supply_BL.clamp(min=1)
        assert (unsold[(price > 0) & (supply_BL > 0)].abs() <= 1e-6).all()

    @_contract
    @given(
        data=st.data(),
        market=markets(fractions=_SCARCE, tight=False),
        factor=st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.01, 1.1, 3.0, 30.0]),
        fees=st.booleans(),
    )
    def test_no_single_bid_gains_by_misreporting(
        self, data: st.DataObject, market: Market, factor: float, fees: bool
    ) -> None:
        """With wallets slack, and openings that were settled by earlier forwards or not at all."""
        mechanism = self._promising("truthful")
        market = market if fees else market.without_fees()
        state = _warm(mechanism, market, int(fees))
        truth, _ = market.clear(mechanism, state)
        rows, length, agents = market.bid_BLN.shape
        b, token, n = (data.draw(st.integers(0, size - 1)) for size in (rows, length, agents))
        bid_BLN = market.bid_BLN.clone()
        value = float(bid_BLN[b, token, n])
        bid_BLN[b, token, n] = value * factor
        lie, _ = market.bidding(bid_BLN).clear(mechanism, state)

        def rent(clearing: Clearing) -> float:
            served = float(clearing.allocation_BLN[b, token, n])
            return value * served - float(clearing.payment_BLN[b, token, n])

        assert rent(truth) >= -1e-9 * value
        assert rent(lie) <= rent(truth) + 1e-7 * max(value, 1.0)
        # A winner's payment is its critical value: it does not depend on what the winner bid.
        if truth.allocation_BLN[b, token, n] and lie.allocation_BLN[b, token, n]:
            paid, asked = truth.payment_BLN[b, token, n], lie.payment_BLN[b, token, n]
            assert abs(float(paid - asked)) <= 1e-7 * max(value, 1.0)

    @_contract
    @given(market=markets(fractions=_SCARCE))
    def test_the_linear_program_has_no_duality_gap(self, market: Market) -> None:
        """Supply at the shadow price plus surplus is optimal welfare."""
        mechanism = self._promising("lp_limit")
        scope = "sequence" if mechanism.scope == "token" else mechanism.scope
        best = optimum(market.goods(scope))
        worth_B = surplus(market, best.price_M)
        worth = worth_B.sum(0, keepdim=True) if scope == "batch" else worth_B
        supply_M = market.goods(scope).supply_M
        assert torch.allclose(best.price_M * supply_M / FLOPS_PER_GFLOP + worth, best.welfare_M)

    # --- helpers -------------------------------------------------------------------------------

    def _promising(self, guarantee: str) -> Mechanism:
        """The mechanism, or a skip where it does not promise so much."""
        mechanism = self.make()
        if not getattr(mechanism.guarantees, guarantee):
            pytest.skip(f"{mechanism.name} does not declare {guarantee!r}")
        return mechanism


def flops_spent(market: Market, allocation_BLN: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs of a hard allocation added up one by one: own ones (B, L) and set-up fees (B,)."""
    rows, length, agents = allocation_BLN.shape
    tariff = market.tariff
    flops, columns = tariff.token_flops_BNL.tolist(), tariff.token_flops_BNL.shape[-1]
    fees = tariff.setup_flops_U.tolist()
    served = allocation_BLN.tolist()
    own_BL = np.zeros((rows, length), dtype=np.int64)
    fee_B = np.zeros(rows, dtype=np.int64)
    for b in range(rows):
        opened = set()
        for token in range(length):
            for n in range(agents):
                if served[b][token][n]:
                    own_BL[b, token] += flops[b][n][min(token, columns - 1)]
                    if n < len(fees) * tariff.group:
                        opened.add(n // tariff.group)
        fee_B[b] = sum(fees[u] for u in opened) * int(market.context_B1[b])
    return own_BL, fee_B


def soft_flops_spent(market: Market, gate_BLN: Tensor) -> tuple[Tensor, Tensor]:
    """The same for soft gates: a unit is open as far as its most open gate."""
    rows, length, agents = gate_BLN.shape
    tariff = market.tariff
    flops_BLN = tariff.double_BNL.expand(rows, agents, length).transpose(1, 2)
    widest_BN = gate_BLN.amax(1)[:, : tariff.fee_agents]
    widest_BU = widest_BN.reshape(rows, market.units, tariff.group).amax(-1)
    fee_BU = market.context_B1 * tariff.setup_flops_U
    return (gate_BLN * flops_BLN).sum(-1), (widest_BU * fee_BU).sum(-1)


def surplus(market: Market, price_M: Tensor) -> Tensor:
    """Most that each row's agents can gain at given prices (credits, (B,)), fees included."""
    goods, tariff = market.goods("sequence"), market.tariff
    gflops_BNL = tariff.double_BNL / FLOPS_PER_GFLOP
    gain_BNL = (goods.density_BNL - price_M[:, None, None]).clamp(min=0) * gflops_BNL
    fee_BU = market.context_B1 * tariff.setup_flops_U / FLOPS_PER_GFLOP
    units_BU = goods.over_units(gain_BNL).sum(-1) - price_M[:, None] * fee_BU
    return units_BU.clamp(min=0).sum(1) + gain_BNL[:, tariff.fee_agents :].sum((1, 2))


def _warm(mechanism: Mechanism, market: Market, forwards: int) -> State:
    """The state after some forwards."""
    state = market.state(mechanism)
    for _ in range(forwards):
        _, state = market.clear(mechanism, state)
    return state


def _both(
    market: Market, mechanism: Mechanism, heat: float, state: State | None = None
) -> tuple[Clearing, Clearing]:
    """The hard and the soft clearing."""
    return market.clear(mechanism, state)[0], market.relax(mechanism, heat, state)[0]


def _close(one: Tensor, other: Tensor) -> None:
    """Equal up to the order in which sums were added."""
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def _assert_outsiders_get_nothing(market: Market, clearing: Clearing) -> None:
    assert not clearing.allocation_BLN[~market.may_BLN].any()
    assert not clearing.payment_BLN[~market.may_BLN].any()


def _assert_payable(market: Market, clearing: Clearing) -> None:
    paid_BN = clearing.payment_BLN.sum(1)
    served_BN = (market.bid_BLN * clearing.allocation_BLN).sum(1)
    assert (clearing.payment_BLN >= 0).all()
    assert (paid_BN <= market.limit_BN * (1 + _ROUNDING)).all()
    assert (paid_BN <= served_BN * (1 + _ROUNDING)).all()


def _assert_free(market: Market, clearing: Clearing) -> None:
    assert torch.equal(clearing.allocation_BLN.bool(), market.may_BLN)
    assert not clearing.price.any()
    assert not clearing.payment_BLN.any()


def _just_enough(market: Market) -> Market:
    """Each token brings what its unmuted agents cost, its share of their units' fees included."""
    tariff = market.tariff
    own_BL = (tariff.token_flops_BNL * market.may_BLN.transpose(1, 2)).sum(1)
    unit_U = market.active_N[: tariff.fee_agents].reshape(-1, tariff.group).any(-1)
    fee = int((tariff.setup_flops_U * unit_U).sum())
    supply_BL = own_BL + fee * tariff.real_BL
    return Market(market.bid_BLN, tariff, supply_BL, market.active_N, market.limit_BN)


def _identical(market: Market, units: int, agents: int) -> Market:
    """A market of this one's rows and supply fractions whose agents all cost and bid the same."""
    rows, length = market.mask_BL.shape
    tariff = type(market.tariff)(
        torch.full((rows, units + agents, 1), 100),
        torch.full((units,), 50),
        market.mask_BL,
    )
    dense_BL = market.tariff.dense_flops_BL.clamp(min=1)
    whole = [
        [int(Fraction(s, d) * new) for s, d, new in zip(*each, strict=True)]
        for each in zip(
            market.supply_flops_BL.tolist(),
            dense_BL.tolist(),
            tariff.dense_flops_BL.tolist(),
            strict=True,
        )
    ]
    # Along a row supply must not fall; rounding down may have left one FLOP more or less, and
    # tokens may have been read unevenly.
    supply_BL = torch.tensor(whole).cummax(1).values * market.mask_BL
    bid_BLN = torch.ones(rows, length, units + agents, dtype=torch.float64)
    limit_BN = torch.full((rows, units + agents), 1e30, dtype=torch.float64)
    return Market(bid_BLN, tariff, supply_BL, torch.ones(units + agents).bool(), limit_BN)


__all__ = ["MechanismContract", "flops_spent"]
