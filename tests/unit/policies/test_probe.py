"""The learned probe: planted values are found, and better than by the trace that it starts at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, tiny_batch, tiny_model

from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies import Ablation, Ablations, Features, LayerTrace, Trace
from agent_economy.policies.measured import grouped
from agent_economy.policies.probe import ProbePolicy
from agent_economy.policies.taylor import TaylorPolicy
from agent_economy.tasks.utility import EmbeddingFidelity

D, N, Y = 6, 3, 2


def truth(hidden_XD: torch.Tensor, layer: int) -> torch.Tensor:
    """What serving really is worth: agents differ widely, tokens a little."""
    weight_DN = torch.randn(D, N, generator=torch.Generator().manual_seed(50 + layer))
    x_XD = torch.nn.functional.layer_norm(hidden_XD, (D,))
    level_N = torch.tensor([0.2, 1.0, 3.0]) if layer == 0 else torch.tensor([2.0, 0.1, 0.5])
    return level_N * torch.nn.functional.softplus(1 + 0.4 * x_XD @ weight_DN)


def planted(
    seed: int, batches: int = 10, draws: int = 20, noise: float = 0.0
) -> tuple[Trace, Ablations]:
    """A trace that misleads (all agents look alike), and ablations that tell the truth."""
    generator = torch.Generator().manual_seed(seed)
    ablations: Ablations = []
    states: list[list[torch.Tensor]] = []
    for _ in range(batches):
        hidden = [torch.randn(4, 7, D, generator=generator) for _ in range(Y)]
        states.append(hidden)
        mask_BL = torch.arange(7) < torch.tensor([7, 5, 3, 1])[:, None]
        for _ in range(draws):
            closed = float(torch.rand((), generator=generator)) * 0.6
            gates = [
                (torch.rand(4, 7, N, generator=generator) >= closed) | ~mask_BL[..., None]
                for _ in range(Y)
            ]
            lost_B = torch.stack(
                [
                    (truth(h, y) * ~g).sum((1, 2))
                    for y, (h, g) in enumerate(zip(hidden, gates, strict=True))
                ]
            ).sum(0)
            change_B = 0.02 * lost_B / mask_BL.sum(1)
            change_B = change_B + noise * torch.randn(4, generator=generator)
            ablations.append(Ablation(hidden, mask_BL, gates, change_B))
    layers = []
    for y in range(Y):
        hidden_TD = torch.cat([hidden[y].flatten(0, 1) for hidden in states])
        gradient_STN = 1 + 0.1 * torch.rand(2, len(hidden_TD), N, generator=generator)
        layers.append(LayerTrace(hidden_TD, gradient_STN, gradient_STN[0]))
    return layers, ablations


def features(hidden_BLD: torch.Tensor, layer: int) -> Features:
    limit_BN = torch.full((len(hidden_BLD), N), 9e9)
    return Features(layer, 0, hidden_BLD, torch.arange(N), limit_BN, None)


@pytest.fixture(scope="module")
def fitted() -> ProbePolicy:
    policy = ProbePolicy(seed=1)
    policy.fit(*planted(0))
    return policy


def bids_and_truth(policy: ProbePolicy | TaylorPolicy) -> tuple[torch.Tensor, torch.Tensor]:
    hidden_BLD = torch.randn(30, 10, D, generator=torch.Generator().manual_seed(9))
    bids = [policy.bid(features(hidden_BLD, y)).detach() for y in range(Y)]
    return torch.stack(bids), torch.stack([truth(hidden_BLD, y) for y in range(Y)])


def test_planted_values_are_found(fitted: ProbePolicy) -> None:
    """On hidden states that it has not seen, where the trace alone says nothing."""
    bid, value = bids_and_truth(fitted)
    means = bid.mean((1, 2)) / bid.mean(), value.mean((1, 2)) / value.mean()
    torch.testing.assert_close(*means, rtol=0.1, atol=0.1)
    assert float(torch.corrcoef(torch.stack((bid.flatten(), value.flatten())))[0, 1]) > 0.97
    trace, _ = planted(0)
    first_order = TaylorPolicy()
    first_order.fit(trace)
    blind, value = bids_and_truth(first_order)
    assert abs(float(torch.corrcoef(torch.stack((blind.flatten(), value.flatten())))[0, 1])) < 0.5


def test_predictions_hold_on_other_allocations(fitted: ProbePolicy) -> None:
    """In units of the loss, by the slope that the policy reports."""
    _, ablations = planted(5, batches=4)
    changes, guesses = [], []
    for each in ablations:
        lost_B = torch.stack(
            [
                (fitted.bid(features(h, y)).detach() * ~g).sum((1, 2))
                for y, (h, g) in enumerate(zip(each.hidden, each.gates, strict=True))
            ]
        ).sum(0)
        guesses.append(float(fitted.loss_per_credit) * lost_B / each.mask_BL.sum(1))
        changes.append(each.change_B)
    change, guess = torch.cat(changes), torch.cat(guesses)
    r2 = 1 - (change - guess).square().sum() / (change - change.mean()).square().sum()
    assert float(r2) > 0.95
    assert fitted.r2 > 0.95 > fitted.r2_start


def test_bids_average_one_credit(fitted: ProbePolicy) -> None:
    trace, _ = planted(0)
    bids = [fitted.bid(features(each.hidden_TD[None], y)).detach() for y, each in enumerate(trace)]
    assert float(torch.stack(bids).mean()) == pytest.approx(1, rel=1e-4)


def test_tables_are_parameters_and_bids_differentiable(fitted: ProbePolicy) -> None:
    assert {name for name, _ in fitted.named_parameters()} == {"weight_YDN", "intercept_YN"}
    hidden_BLD = torch.randn(1, 2, D).double()
    again = ProbePolicy()
    again.restore({key: table.double() for key, table in fitted.state_dict().items()})
    weight_YDN = again.weight_YDN
    assert isinstance(weight_YDN, torch.nn.Parameter) and weight_YDN.requires_grad

    def total(weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(
            _Bid(again), {"policy.weight_YDN": weight}, (features(hidden_BLD, 1),)
        )

    assert torch.autograd.gradcheck(total, (weight_YDN.detach().clone().requires_grad_(),))


class _Bid(torch.nn.Module):
    def __init__(self, policy: ProbePolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, asked: Features) -> torch.Tensor:
        return self.policy.bid(asked)


def test_the_fit_repeats_under_its_seed() -> None:
    trace, ablations = planted(3, batches=3, draws=6, noise=1e-3)
    one, again, other = (ProbePolicy(seed) for seed in (1, 1, 2))
    torch.manual_seed(0)
    one.fit(trace, ablations)
    torch.manual_seed(1)
    again.fit(trace, ablations)
    other.fit(trace, ablations)
    assert torch.equal(one.weight_YDN, again.weight_YDN)
    assert not torch.equal(one.weight_YDN, other.weight_YDN)


def test_it_stops_before_it_learns_noise() -> None:
    """Where losses are pure noise the probe stays near what it started at."""
    trace, ablations = planted(4, batches=6, draws=10)
    generator = torch.Generator().manual_seed(0)
    noisy = [
        each._replace(change_B=torch.rand(each.change_B.shape, generator=generator))
        for each in ablations
    ]
    policy = ProbePolicy()
    policy.fit(trace, noisy)
    assert policy.r2 < 0.1
    bid, _ = bids_and_truth(policy)
    assert float(bid.std()) < 0.5, "no agent was singled out"


def test_groups_hold_out_every_fourth_row() -> None:
    _, ablations = planted(0, batches=2, draws=3)
    batches = grouped(ablations, torch.zeros(()))
    assert [each.held_BX.any(1).tolist() for each in batches] == [[False, False, False, True]] * 2
    closed = batches[1].closed_BXI.view(4, 3, Y, 7, N)
    assert torch.equal(closed[:, 2, 1], ~ablations[5].gates[1])
    value_YTN = torch.rand(Y, 28, N)
    expected = (value_YTN.view(Y, 4, 7, N)[:, 1] * closed[1, 2]).sum() / 5
    torch.testing.assert_close(batches[1].mean_of_closed(value_YTN)[1, 2], expected)
    apart = [each._replace(hidden=list(each.hidden)) for each in ablations]
    assert len(grouped(apart, torch.zeros(()))) == 2, "by the tensors, not by the list"
    few = grouped(planted(0, batches=1, draws=3)[1], torch.zeros(()))
    assert few[0].held_BX.sum() == 3, "few rows: every fourth measurement"


# --- in an economy ------------------------------------------------------------------------------


def economy() -> Economy:
    return Economy.from_model(
        tiny_model("bert"), block_size=BLOCK_SIZE, budget_fraction=0.5, policy={"name": "probe"}
    )


def test_an_economy_measures_what_the_probe_needs(tmp_path: Path) -> None:
    own, utility = economy(), EmbeddingFidelity()
    batches = [tiny_batch((9, 9, 7), seed=s) for s in range(3)]
    own.calibrate(batches, utility.loss, utility=utility, draws=8)
    (policy,) = own.policies
    assert isinstance(policy, ProbePolicy)
    assert policy.weight_YDN.shape == (LAYERS, 32, AGENTS)
    with torch.no_grad():
        output = own(**batches[0])
        assert output.receipt.welfare > 0
        own.save_pretrained(tmp_path)
        again = Economy.from_pretrained(tmp_path)
        one, other = own(**batches[1]), again(**batches[1])
    assert torch.equal(one.last_hidden_state, other.last_hidden_state)
    (loaded,) = again.policies
    assert isinstance(loaded, ProbePolicy)
    assert isinstance(loaded.weight_YDN, torch.nn.Parameter)


def test_gradients_may_be_on() -> None:
    own, utility, batch = economy(), EmbeddingFidelity(), tiny_batch((9, 9, 7))
    own.calibrate([batch], utility.loss, utility=utility, draws=8)
    own(**batch)
    own.market.temperature = 0.1
    own(**batch).last_hidden_state.sum().backward()
    (policy,) = own.policies
    assert isinstance(policy, ProbePolicy)
    assert policy.weight_YDN.grad is not None and policy.weight_YDN.grad.abs().sum() > 0
    own(**batch)  # nothing is left of the last graph


def test_without_a_utility_it_says_what_to_pass() -> None:
    with pytest.raises(EconomyError, match=r"calibrate\(batches, utility.loss, utility=utility\)"):
        economy().calibrate([tiny_batch()], EmbeddingFidelity().loss)


def test_uncalibrated_says_so() -> None:
    with pytest.raises(EconomyError, match="'probe' is not calibrated"):
        economy()(**tiny_batch())


def test_bad_measurements_say_so() -> None:
    trace, ablations = planted(0, batches=1, draws=3)
    with pytest.raises(EconomyError, match="learns from measured losses"):
        ProbePolicy().fit(trace)
    still = [each._replace(change_B=torch.zeros(4)) for each in ablations]
    with pytest.raises(EconomyError, match="do not move"):
        ProbePolicy().fit(trace, still)
    broken = [each._replace(change_B=each.change_B + torch.nan) for each in ablations]
    with pytest.raises(EconomyError, match="not numbers"):
        ProbePolicy().fit(trace, broken)
    with pytest.raises(EconomyError, match="fewer than 8 losses"):
        ProbePolicy().fit(trace, ablations[:1])
    with pytest.raises(EconomyError, match=r"floor = 0\.0"):
        ProbePolicy(floor=0.0)
