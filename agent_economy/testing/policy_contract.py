"""What every policy must keep: inherit ``PolicyContract`` and give ``make``.

Each clause is one property test over random hidden states. How many cases are tried is Hypothesis'
own setting: load a profile before this module is imported.

Example, a whole test file::

    from agent_economy.testing import PolicyContract
    from my_package import MyPolicy

    class TestMyPolicy(PolicyContract):
        def make(self):
            return MyPolicy(seed=3)
"""

from __future__ import annotations

import copy
import json
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent_economy.policies.base import (
    Ablation,
    Ablations,
    Features,
    LayerTrace,
    Outcome,
    Policy,
    Trace,
)

#: Inherited tests run from several classes, which is the point of a contract.
_contract = settings(suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
#: Sums in another order.
_CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


class Case(NamedTuple):
    """Sizes and draws of one call."""

    rows: int
    length: int
    layer: int
    step: int
    dtype: torch.dtype
    seed: int


_CASES = st.builds(
    Case,
    rows=st.integers(1, 3),
    length=st.integers(1, 7),
    layer=st.integers(0, 1),
    step=st.integers(0, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)


class PolicyContract:
    """Property tests that a policy inherits; see the module's heading.

    Attributes:
        layers: of the model that it bids in; at least two.
        hidden: width of the hidden states.
        agents: of each layer.
        tokenwise: whether a token's bid follows from its own hidden state, as it must where
            decoding with a cache shall bid what the whole text bids.
    """

    layers = 2
    hidden = 8
    agents = 5
    tokenwise = True

    def make(self) -> Policy:
        """The policy under test, not fitted, the same on every call."""
        raise NotImplementedError("a contract test class gives make() -> Policy")

    def trace(self) -> Trace:
        """What it is fitted on: random by default, with values linear in the hidden state."""
        return synthetic_trace(self.layers, self.hidden, self.agents)

    def ablations(self) -> Ablations:
        """Measured losses, given where the policy needs them: random by default."""
        return synthetic_ablations(self.layers, self.hidden, self.agents)

    # --- bids --------------------------------------------------------------------------------

    @_contract
    @given(case=_CASES)
    def test_bids_are_numbers_not_below_zero(self, case: Case) -> None:
        """Of the right shape, and of the hidden states' type and device."""
        features = self._features(case)
        bid_BLN = self._ready().bid(features)
        assert bid_BLN.shape == (case.rows, case.length, self.agents)
        assert bid_BLN.dtype == features.hidden_BLD.dtype
        assert bid_BLN.device == features.hidden_BLD.device
        assert bid_BLN.isfinite().all()
        assert (bid_BLN >= 0).all()

    @_contract
    @given(case=_CASES)
    def test_the_same_seed_bids_the_same(self, case: Case) -> None:
        """Made, fitted and asked twice, whatever the global stream of numbers is at."""
        features = self._features(case)
        torch.manual_seed(case.seed)
        one = self._ready().bid(features)
        torch.manual_seed(case.seed + 1)
        assert torch.equal(self._ready(again=True).bid(features), one)

    @_contract
    @given(case=_CASES, data=st.data())
    def test_some_agents_bid_as_among_all(self, case: Case, data: st.DataObject) -> None:
        """A group's bids are its columns of everybody's."""
        features = self._features(case)
        chosen = data.draw(st.sets(st.integers(0, self.agents - 1), min_size=1))
        agents_N = torch.tensor(sorted(chosen))
        whole = self._ready().bid(features)
        part = self._ready().bid(features._replace(agents_N=agents_N))
        torch.testing.assert_close(part, whole[..., agents_N], **_CLOSE)

    @_contract
    @given(case=_CASES, data=st.data())
    def test_rows_do_not_matter_to_each_other(self, case: Case, data: st.DataObject) -> None:
        """Another text beside it changes nothing in a row's bids."""
        features = self._features(case)
        row = data.draw(st.integers(0, case.rows - 1))
        hidden_BLD = self._features(case._replace(seed=case.seed + 1)).hidden_BLD.clone()
        hidden_BLD[row] = features.hidden_BLD[row]
        one = self._ready().bid(features)
        other = self._ready().bid(features._replace(hidden_BLD=hidden_BLD))
        torch.testing.assert_close(other[row], one[row], **_CLOSE)

    @_contract
    @given(case=_CASES, data=st.data())
    def test_later_tokens_do_not_matter(self, case: Case, data: st.DataObject) -> None:
        """Neither what they are nor how many there are: a prefix bids as in the whole row."""
        features = self._features(case)
        length = data.draw(st.integers(1, case.length))
        prefix_BLD = features.hidden_BLD[:, :length]
        whole = self._ready().bid(features)
        prefix = self._ready().bid(features._replace(hidden_BLD=prefix_BLD))
        torch.testing.assert_close(prefix, whole[:, :length], **_CLOSE)

    @_contract
    @given(case=_CASES, data=st.data())
    def test_a_token_alone_bids_the_same(self, case: Case, data: st.DataObject) -> None:
        """Without the earlier tokens beside it, as when text is decoded with a cache."""
        if not self.tokenwise:
            pytest.skip("bids follow from more than the token's own hidden state")
        features = self._features(case)
        token = data.draw(st.integers(0, case.length - 1))
        alone_B1D = features.hidden_BLD[:, token : token + 1]
        whole = self._ready().bid(features)
        alone = self._ready().bid(features._replace(hidden_BLD=alone_B1D))
        torch.testing.assert_close(alone, whole[:, token : token + 1], **_CLOSE)

    @_contract
    @given(case=_CASES, data=st.data())
    def test_padding_does_no_harm(self, case: Case, data: st.DataObject) -> None:
        """Nothing or nonsense in a row's last places breaks no bid and moves no earlier one."""
        features = self._features(case)
        real = data.draw(st.integers(1, case.length))
        content = data.draw(st.sampled_from([0.0, 1e4, -1e4]))
        hidden_BLD = features.hidden_BLD.clone()
        hidden_BLD[:, real:] = content
        bid_BLN = self._ready().bid(features._replace(hidden_BLD=hidden_BLD))
        assert bid_BLN.isfinite().all()
        assert (bid_BLN >= 0).all()
        whole = self._ready().bid(features)
        torch.testing.assert_close(bid_BLN[:, :real], whole[:, :real], **_CLOSE)

    # --- life --------------------------------------------------------------------------------

    @_contract
    @given(case=_CASES, forwards=st.integers(0, 3))
    def test_made_again_from_what_is_saved(self, case: Case, forwards: int) -> None:
        """Name, options and tables are the whole policy, also after it has seen what it won."""
        policy = self._ready()
        for step in range(forwards):
            self._forward(policy, case._replace(step=step, seed=case.seed + step))
        options = json.loads(json.dumps(policy.options))
        again = type(policy)(**options)
        again.restore({key: table.clone() for key, table in policy.state_dict().items()})
        features = self._features(case)
        assert torch.equal(again.bid(features), policy.bid(features))
        assert type(policy).name and isinstance(type(policy).name, str)

    @_contract
    @given(case=_CASES)
    def test_what_it_wins_leaves_its_bids_sound(self, case: Case) -> None:
        """A policy that learns in use goes on bidding numbers that are not below zero."""
        policy = self._ready()
        for step in range(4):
            self._forward(policy, case._replace(step=step, seed=case.seed + step))
        bid_BLN = policy.bid(self._features(case))
        assert bid_BLN.isfinite().all()
        assert (bid_BLN >= 0).all()

    @_contract
    @given(case=_CASES)
    def test_gradients_reach_every_parameter(self, case: Case) -> None:
        """What it declares as a parameter can be trained through its bids, in some layer."""
        policy = self._ready()
        layers = [self._features(case._replace(layer=layer)) for layer in range(self.layers)]
        total = torch.stack([policy.bid(features).sum() for features in layers]).sum()
        for name, parameter in policy.named_parameters():
            if not parameter.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(
                total, parameter, retain_graph=True, allow_unused=True
            )
            assert gradient is not None, f"{name} does not reach the bids"
            assert gradient.isfinite().all(), name
            assert gradient.any(), f"{name} does not matter"

    def test_its_own_flops_are_a_whole_number(self) -> None:
        """Bidding is charged to the market: whole FLOPs, never less for more agents."""
        policy = self._ready()
        asked = [policy.flops_per_token(self.hidden, agents) for agents in (1, self.agents)]
        assert all(type(each) is int for each in asked)
        assert 0 <= asked[0] <= asked[1]

    # --- parts -------------------------------------------------------------------------------

    def _ready(self, *, again: bool = False) -> Policy:
        """A fitted policy of the test's own; fitted once per class, and once more if asked."""
        key = "_fitted_again" if again else "_fitted"
        if key not in vars(type(self)):
            policy = self.make()
            policy.fit(self.trace(), self.ablations() if policy.needs_ablations else None)
            setattr(type(self), key, policy)
        return copy.deepcopy(vars(type(self))[key])  # type: ignore[no-any-return]

    def _features(self, case: Case) -> Features:
        generator = torch.Generator().manual_seed(case.seed)
        shape = (case.rows, case.length, self.hidden)
        return Features(
            layer=case.layer,
            step=case.step,
            hidden_BLD=torch.randn(shape, generator=generator, dtype=case.dtype),
            agents_N=torch.arange(self.agents),
            limit_BN=100 * torch.rand(case.rows, self.agents, generator=generator),
            price=torch.rand(case.rows, 1, 1, generator=generator) if case.step else None,
            budget_fraction=0.5,
        )

    def _forward(self, policy: Policy, case: Case) -> None:
        """Bid in every layer, then learn what became of it: random service at half the bid."""
        outcomes = []
        for layer in range(self.layers):
            features = self._features(case._replace(layer=layer))
            bid_BLN = policy.bid(features).detach()
            generator = torch.Generator().manual_seed(case.seed + layer)
            served_BLN = (torch.rand(bid_BLN.shape, generator=generator) < 0.5).to(bid_BLN)
            mask_BL = torch.ones(bid_BLN.shape[:2], dtype=torch.bool)
            paid_BLN = 0.5 * bid_BLN * served_BLN
            price = torch.ones(case.rows, 1, 1)
            outcomes.append(
                Outcome(layer, features.agents_N, mask_BL, bid_BLN, served_BLN, paid_BLN, price)
            )
        if policy.observes:
            for outcome in outcomes:
                policy.observe(outcome)


def synthetic_trace(layers: int, hidden: int, agents: int, tokens: int = 80) -> Trace:
    """Layers whose agents' gradients and norms are linear in the normalised hidden state."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for layer in range(layers):
        hidden_TD = torch.randn(tokens, hidden, generator=generator)
        value_TN = _planted(hidden_TD, layer, agents)
        found.append(LayerTrace(hidden_TD, torch.stack((value_TN, -value_TN)), value_TN))
    return found


def synthetic_ablations(
    layers: int, hidden: int, agents: int, batches: int = 4, draws: int = 12
) -> Ablations:
    """Random allocations whose change of loss is what the same values add up to."""
    generator = torch.Generator().manual_seed(2)
    found: Ablations = []
    for _ in range(batches):
        shape = (3, 6, hidden)
        states = [torch.randn(shape, generator=generator) for _ in range(layers)]
        mask_BL = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
        for draw in range(draws):
            closed = 0.1 + 0.5 * draw / draws
            gates = [
                (torch.rand(3, 6, agents, generator=generator) > closed) | ~mask_BL[..., None]
                for _ in range(layers)
            ]
            lost = [
                (_planted(x, layer, agents) * ~gate).sum((1, 2))
                for layer, (x, gate) in enumerate(zip(states, gates, strict=True))
            ]
            change_B = 0.01 * torch.stack(lost).sum(0) / mask_BL.sum(1)
            found.append(Ablation(states, mask_BL, gates, change_B))
    return found


def _planted(hidden_XD: Tensor, layer: int, agents: int) -> Tensor:
    """Values, >= 0, that the hidden state tells."""
    generator = torch.Generator().manual_seed(100 + layer)
    width = hidden_XD.shape[-1]
    weight_DN = torch.randn(width, agents, generator=generator) / width**0.5
    x_XD = torch.nn.functional.layer_norm(hidden_XD, (width,))
    value_XN: Tensor = (layer + 1) * (2 + x_XD @ weight_DN).clamp(min=0.1)
    return value_XN


__all__ = ["PolicyContract", "synthetic_ablations", "synthetic_trace"]
