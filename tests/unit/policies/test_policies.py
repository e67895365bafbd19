"""Valuations against brute force on a tiny model, and what policies promise about their bids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, tiny_batch, tiny_model

from agent_economy.adapters import Adapter, adapter_for
from agent_economy.adapters.base import projection_weight
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.trace import trace
from agent_economy.policies import POLICIES, Features, LayerTrace, Policy
from agent_economy.policies.activation_norm import ActivationNormPolicy
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.fisher import FisherPolicy
from agent_economy.policies.random import RandomPolicy
from agent_economy.policies.readout import ReadoutPolicy
from agent_economy.policies.taylor import TaylorPolicy
from agent_economy.testing.adapter_contract import Gates, agent_slice, read_inputs

BATCH = tiny_batch((6, 3))
REAL_BL = BATCH["attention_mask"].bool()
#: (layer, row, token, agent): a head, the first and the smaller last block, in two layers
PLACES = [(0, 0, 0, 0), (0, 1, 2, 3), (1, 0, 5, 4), (2, 0, 3, 2), (2, 1, 0, AGENTS - 1)]


def projected(output: Any, batch: dict[str, Any], generator: torch.Generator) -> torch.Tensor:
    """A random projection of every real token's output."""
    hidden_BLD = output.last_hidden_state
    direction_D = torch.randn(hidden_BLD.shape[-1], generator=generator, dtype=torch.float64)
    return (hidden_BLD.double() @ direction_D)[batch["attention_mask"].bool()].sum()


def token_row(row: int, token: int) -> int:
    """Where a token of the batch is among the real ones."""
    return int(REAL_BL.flatten()[: row * REAL_BL.shape[1] + token].sum())


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return adapter_for(tiny_model("bert").double(), BLOCK_SIZE)


@pytest.fixture(scope="module")
def measured(adapter: Adapter) -> list[LayerTrace]:
    return trace(adapter, [BATCH], projected, probes=3, seed=4)


def slopes(adapter: Adapter, place: tuple[int, int, int, int], probes: int) -> torch.Tensor:
    """Finite differences of the same losses when one gate moves, (S,)."""
    layer, row, token, agent = place
    step, values = 1e-5, []
    for sign in (1, -1):
        gate_BLN = torch.ones(*REAL_BL.shape, AGENTS, dtype=torch.float64)
        gate_BLN[row, token, agent] += sign * step
        with torch.no_grad():
            output, _ = MaskedExecutor(adapter).run(BATCH, Gates({layer: gate_BLN}))
        generator = torch.Generator().manual_seed(4)
        values.append([float(projected(output, BATCH, generator)) for _ in range(probes)])
    up_S, down_S = torch.tensor(values, dtype=torch.float64)
    return (up_S - down_S) / (2 * step)


@pytest.mark.parametrize("place", PLACES)
def test_taylor_and_fisher_are_finite_differences(
    adapter: Adapter, measured: list[LayerTrace], place: tuple[int, int, int, int]
) -> None:
    layer, row, token, agent = place
    slope_S = slopes(adapter, place, probes=3)
    where = token_row(row, token), agent
    taylor = TaylorPolicy().valuation(measured[layer])[where]
    assert float(taylor) == pytest.approx(float(slope_S.abs().mean()), rel=1e-4)
    fisher = FisherPolicy().valuation(measured[layer])[where]
    assert float(fisher) == pytest.approx(float(slope_S.square().mean()), rel=1e-4)


def test_taylor_is_the_change_of_the_loss_to_first_order(
    adapter: Adapter, measured: list[LayerTrace]
) -> None:
    """Closing a gate by a hundredth moves the loss by a hundredth of the value."""
    layer, row, token, agent = PLACES[1]
    losses = []
    for close in (0.0, 0.01):
        gate_BLN = torch.ones(*REAL_BL.shape, AGENTS, dtype=torch.float64)
        gate_BLN[row, token, agent] -= close
        with torch.no_grad():
            output, _ = MaskedExecutor(adapter).run(BATCH, Gates({layer: gate_BLN}))
        losses.append(float(projected(output, BATCH, torch.Generator().manual_seed(4))))
    gradient = measured[layer].gradient_STN[0, token_row(row, token), agent]
    assert abs(losses[1] - losses[0]) / 0.01 == pytest.approx(abs(float(gradient)), rel=0.05)


def test_activation_norm_is_the_norm_of_what_an_agent_writes(
    adapter: Adapter, measured: list[LayerTrace]
) -> None:
    for layer, sites in enumerate(adapter.sites):
        modules = sites.attention_output, sites.ffn_output
        with torch.no_grad(), read_inputs(modules) as inputs:
            adapter.model(**BATCH)
        value_TN = ActivationNormPolicy().valuation(measured[layer])
        assert value_TN.shape == (9, AGENTS)
        for agent in range(AGENTS):
            is_head, own = agent_slice(adapter.shape, agent)
            place = 0 if is_head else 1
            weight = projection_weight(modules[place])
            added_TD = inputs[place][REAL_BL][:, own] @ weight[:, own].T
            torch.testing.assert_close(value_TN[:, agent], added_TD.norm(dim=-1))


def test_a_trace_leaves_the_model_as_it_was(adapter: Adapter) -> None:
    model = adapter.model
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    trace(adapter, [BATCH, tiny_batch((4, 4))], projected)
    wanted = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert wanted == {"embeddings.word_embeddings.weight"}
    model.embeddings.word_embeddings.weight.requires_grad_(True)
    assert all(p.grad is None for p in model.parameters())


def test_trace_joins_batches(adapter: Adapter, measured: list[LayerTrace]) -> None:
    both = trace(adapter, [BATCH, tiny_batch((4, 4))], projected, probes=3, seed=4)
    assert both[0].hidden_TD.shape == (9 + 8, 32)
    assert both[0].gradient_STN.shape == (3, 17, AGENTS)
    torch.testing.assert_close(both[1].gradient_STN[:, :9], measured[1].gradient_STN)


# --- readouts -----------------------------------------------------------------------------------


def synthetic(seed: int, tokens: int = 400) -> list[LayerTrace]:
    """Two layers whose agents' gradients are linear in the normalised hidden state."""
    generator = torch.Generator().manual_seed(seed)
    weight_DN = torch.randn(6, 3, generator=torch.Generator().manual_seed(99))
    layers = []
    for scale in (1.0, 3.0):
        hidden_TD = torch.randn(tokens, 6, generator=generator)
        x_TD = torch.nn.functional.layer_norm(hidden_TD, (6,))
        value_TN = scale * (8 + x_TD @ weight_DN)
        layers.append(LayerTrace(hidden_TD, value_TN[None], value_TN))
    return layers


def features(hidden_BLD: torch.Tensor, layer: int = 0, agents: list[int] | None = None) -> Features:
    agents_N = torch.tensor(agents if agents is not None else [0, 1, 2])
    return Features(layer, 0, hidden_BLD, agents_N, torch.full((1, 3), 9e9), None)


def test_a_readout_finds_a_linear_valuation() -> None:
    policy = TaylorPolicy()
    policy.fit(synthetic(0))
    new = synthetic(1, 50)
    scale = torch.stack([layer.norm_TN.mean() for layer in synthetic(0)]).mean()
    for layer in range(2):
        bid_TN = policy.bid(features(new[layer].hidden_TD[None], layer))[0]
        torch.testing.assert_close(bid_TN, new[layer].norm_TN / scale, rtol=0.05, atol=0.05)
    assert len(policy.r2) == 2
    assert min(policy.r2) > 0.95
    policy.fit(synthetic(0))
    assert len(policy.r2) == 2, "a second calibration replaces the first"


def test_bids_average_one_credit_after_calibration() -> None:
    policy = ActivationNormPolicy()
    known = synthetic(0)
    policy.fit(known)
    bids = [policy.bid(features(each.hidden_TD[None], y)).mean() for y, each in enumerate(known)]
    assert float(sum(bids) / 2) == pytest.approx(1.0, rel=0.02)


def test_a_subset_of_agents_gets_its_columns() -> None:
    policy = FisherPolicy()
    policy.fit(synthetic(0))
    hidden_BLD = synthetic(2, 8)[1].hidden_TD[None]
    whole = policy.bid(features(hidden_BLD, 1))
    torch.testing.assert_close(policy.bid(features(hidden_BLD, 1, [2, 0])), whole[..., [2, 0]])


def test_not_per_token_bids_means() -> None:
    known = synthetic(0)
    policy = TaylorPolicy(per_token=False)
    policy.fit(known)
    bid_BLN = policy.bid(features(known[1].hidden_TD[None], 1))
    assert (bid_BLN == bid_BLN[:, :1]).all()
    scale = torch.stack([layer.norm_TN.mean() for layer in known]).mean()
    torch.testing.assert_close(bid_BLN[0, 0], known[1].norm_TN.mean(0) / scale)


def test_bids_never_fall_below_the_floor() -> None:
    policy = TaylorPolicy(floor=0.3)
    policy.fit(synthetic(0))
    bid_BLN = policy.bid(features(torch.randn(4, 500, 6) * 100))
    assert (bid_BLN >= 0.3 * policy.floor_YN[0] / 0.3 - 1e-6).all()
    assert (bid_BLN > 0).all()


@pytest.mark.parametrize("name", ["taylor", "fisher", "activation_norm"])
def test_uncalibrated_says_so(name: str) -> None:
    economy = Economy.from_model(
        tiny_model("bert"), block_size=BLOCK_SIZE, policy={"name": name}, budget_fraction=0.5
    )
    with pytest.raises(EconomyError, match=rf"'{name}' is not calibrated; call economy.calibrate"):
        economy(**BATCH)


def test_no_value_measured_says_so() -> None:
    economy = Economy.from_model(tiny_model("bert"), block_size=BLOCK_SIZE)

    def flat(output: Any, batch: Any, generator: torch.Generator) -> torch.Tensor:
        return 0.0 * output.last_hidden_state.sum()

    with pytest.raises(EconomyError, match="measured no value"):
        economy.calibrate([BATCH], flat)


def test_every_policy_of_an_economy_is_calibrated() -> None:
    economy = Economy.from_model(tiny_model("bert"), block_size=BLOCK_SIZE, budget_fraction=0.5)
    economy.population.assign_policy(slice(0, 9), FisherPolicy())
    economy.calibrate([tiny_batch((9, 9, 7), seed=s) for s in range(2)], projected)
    assert economy(**BATCH).receipt.welfare > 0
    tables = [each.weight_YDN for each in economy.policies if isinstance(each, ReadoutPolicy)]
    assert len(tables) == 2
    assert tables[0].shape == (LAYERS, 32, AGENTS)
    assert not torch.allclose(*tables)


# --- draws --------------------------------------------------------------------------------------


def draw(seed: int, step: int, layer: int) -> torch.Tensor:
    hidden_BLD = torch.zeros(2, 50, 4)
    asked = Features(layer, step, hidden_BLD, torch.arange(7), torch.full((2, 7), 9e9), None)
    return RandomPolicy(seed).bid(asked)


def test_random_depends_on_seed_step_and_layer_alone() -> None:
    places = [(s, t, y) for s in (0, 1, 2**32 - 1) for t in (0, 1, 500) for y in (0, 1, 29)]
    first = {place: draw(*place) for place in places}
    for place in places:
        assert torch.equal(draw(*place), first[place])
    for i, one in enumerate(places):
        for other in places[i + 1 :]:
            both = torch.stack((first[one].flatten(), first[other].flatten()))
            assert abs(float(torch.corrcoef(both)[0, 1])) < 0.2, (one, other)
    every = torch.stack(list(first.values()))
    assert float(every.min()) >= 0
    assert float(every.max()) < 2
    assert float(every.mean()) == pytest.approx(1.0, abs=0.03)


def test_random_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draw(1, 2, 3)
    assert torch.equal(torch.rand(3), expected)


def test_constant() -> None:
    bid_BLN = ConstantPolicy(credits=2.5).bid(features(torch.randn(2, 5, 6), agents=[1, 2]))
    assert torch.equal(bid_BLN, torch.full((2, 5, 2), 2.5))


@pytest.mark.parametrize("name", sorted(POLICIES.members()))
def test_options_make_the_same_policy_again(name: str) -> None:
    member: type[Policy] = POLICIES.get(name)
    if not member.__module__.startswith("agent_economy."):
        pytest.skip("of another test")
    policy = member(seed=3)
    assert member(**policy.options).options == policy.options
    assert policy.options["seed"] == 3
