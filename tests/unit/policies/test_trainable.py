"""Routers and learner gates: what they make their mechanisms do, and that they learn it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, HIDDEN, LAYERS, N_HEADS, tiny_batch, tiny_model
from torch import Tensor
from torch.nn.functional import layer_norm

from agent_economy import Economy
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.ordered_learners import OrderedLearners
from agent_economy.mechanisms.token_top_k import TokenTopK
from agent_economy.policies import Features
from agent_economy.policies.learner_gate import LearnerGatePolicy
from agent_economy.policies.router import RouterPolicy
from agent_economy.policies.trainable import TrainablePolicy

SHAPE = LayerShape(
    hidden=8, heads=3, kv_heads=3, head_dim=4, ffn=64, ffn_matrices=2, block_size=16, causal=False
)
LENGTHS = (9, 6)
MASK_BL = torch.arange(9) < torch.tensor(LENGTHS)[:, None]


def tariff() -> Tariff:
    return layer_tariff(SHAPE, MASK_BL)


def started(policy: TrainablePolicy, layers: int = 2) -> Any:
    """The policy at real costs: FLOPs of each agent for a token of a row of nine."""
    gflops_N = tariff().token_flops_BNL[0, :, 0] / 1e9
    policy.start(SHAPE.hidden, gflops_N.expand(layers, -1), SHAPE.heads)
    return policy


def bids(policy: TrainablePolicy, hidden_BLD: Tensor, layer: int = 0) -> Tensor:
    agents = policy.gflops_YN.shape[1]
    limit_BN = torch.full((len(hidden_BLD), agents), 1e9)
    return policy.bid(Features(layer, 0, hidden_BLD, torch.arange(agents), limit_BN, None))


def terms(share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Supply, who trades and what they may spend."""
    supply_BL = (tariff().dense_flops_BL * share).floor().long()
    agents = SHAPE.agents
    return supply_BL, torch.ones(agents, dtype=torch.bool), torch.full((2, agents), 1e9)


def states(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 9, SHAPE.hidden, generator=generator)


# --- router ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.8, 0.5, 0.35])
def test_a_layers_open_agents_serve_the_same_best_tokens(share: float) -> None:
    hidden_BLD = states()
    policy = started(RouterPolicy(seed=4, spread=1.0))
    bid_BLN = bids(policy, hidden_BLD, layer=1)
    clearing, _ = TokenTopK().clear(bid_BLN, tariff(), *terms(share), {})
    score_BL = layer_norm(hidden_BLD, (SHAPE.hidden,)) @ policy.weight_YD[1]
    for row, length in enumerate(LENGTHS):
        served_LN = clearing.allocation_BLN[row, :length]
        open_N = served_LN.any(0)
        assert open_N[SHAPE.heads :].all() and open_N.any()
        count = int(served_LN[:, open_N][:, 0].sum())
        best_K = score_BL[row, :length].topk(count).indices
        expected_L = torch.zeros(length).scatter(0, best_K, 1.0)
        assert torch.equal(served_LN[:, open_N], expected_L[:, None].expand(-1, open_N.sum()))
        assert 0 < count < length


def test_a_router_weights_all_its_agents_alike() -> None:
    """At the same density the soft gates of a token are the same for heads and for blocks."""
    policy = started(RouterPolicy(seed=4, spread=1.0))
    bid_BLN = bids(policy, states())
    clearing, _ = TokenTopK().relax(bid_BLN, tariff(), *terms(0.8), {}, temperature=0.2)
    # The row of nine, for whose length the costs are exact.
    gate_LN = clearing.allocation_BLN[0]
    open_N = (gate_LN > 0).any(0)
    expected_LN = gate_LN.amax(-1, keepdim=True) * open_N
    torch.testing.assert_close(gate_LN, expected_LN, rtol=1e-4, atol=1e-5)
    assert gate_LN[gate_LN > 0].unique().numel() > 3


def test_a_router_learns_which_tokens_pay() -> None:
    """Serving pays where the first feature is high; few such tokens are served at the start."""
    policy = started(RouterPolicy(seed=0))
    adam = torch.optim.Adam(policy.parameters(), lr=0.05)

    def worth(hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD[..., 0].sign() * MASK_BL

    def served(seed: int) -> float:
        hidden_BLD = states(seed)
        with torch.no_grad():
            bid_BLN = bids(policy, hidden_BLD)
        clearing, _ = TokenTopK().clear(bid_BLN, tariff(), *terms(0.5), {})
        gate_BL = clearing.allocation_BLN[..., -1]
        return float((gate_BL * worth(hidden_BLD)).sum() / gate_BL.sum())

    before = sum(served(1000 + seed) for seed in range(20)) / 20
    for step in range(150):
        hidden_BLD = states(step)
        clearing, _ = TokenTopK().relax(
            bids(policy, hidden_BLD), tariff(), *terms(0.5), {}, temperature=0.3
        )
        adam.zero_grad()
        (-(clearing.allocation_BLN * worth(hidden_BLD)[..., None]).sum()).backward()
        adam.step()
    after = sum(served(1000 + seed) for seed in range(20)) / 20
    assert before < 0.5 and after > 0.8


# --- learner gate ----------------------------------------------------------------------------


def posted(price: float) -> dict[str, Tensor]:
    """A state of the mechanism at which units open and the price is this one."""
    return {
        "price": torch.tensor(price, dtype=torch.float64),
        "surplus_U": torch.zeros(SHAPE.kv_heads, dtype=torch.float64),
        "standing_N": torch.ones(SHAPE.agents, dtype=torch.float64),
    }


def test_bids_are_the_chances_that_an_agent_is_needed() -> None:
    policy = started(LearnerGatePolicy())
    with torch.no_grad():
        policy.weight_YDK.normal_(generator=torch.Generator().manual_seed(1))
    hidden_BLD = states()
    x_BLD = layer_norm(hidden_BLD, (SHAPE.hidden,))
    logit_BLK = x_BLD @ policy.weight_YDK[1] + policy.intercept_YK[1]
    heads, blocks = SHAPE.heads, SHAPE.agents - SHAPE.heads
    expected = []
    for line_BLK, length in (
        (logit_BLK[..., : heads + 1], heads),
        (logit_BLK[..., heads + 1 :], blocks),
    ):
        chance_BLK = line_BLK.exp() / line_BLK.exp().sum(-1, keepdim=True)
        expected += [chance_BLK[..., i:].sum(-1) for i in range(1, length + 1)]
    density_BLN = bids(policy, hidden_BLD, layer=1) / policy.gflops_YN[1]
    torch.testing.assert_close(density_BLN, torch.stack(expected, -1), rtol=1e-4, atol=1e-6)


def test_everything_is_bought_at_the_start() -> None:
    policy = started(LearnerGatePolicy(start_chance=0.9))
    density_BLN = bids(policy, states()) / policy.gflops_YN[0]
    for last in (SHAPE.heads - 1, SHAPE.agents - 1):
        torch.testing.assert_close(density_BLN[..., last], torch.full((2, 9), 0.9))
    mechanism = OrderedLearners(order="index")
    clearing, _ = mechanism.clear(bids(policy, states()), tariff(), *terms(0.999), posted(0.5))
    # All but what the last FLOPs of supply cannot pay for.
    assert clearing.allocation_BLN[MASK_BL].mean() > 0.9


@pytest.mark.parametrize("price", [0.2, 0.5, 0.8])
def test_a_token_buys_the_agents_needed_with_more_than_the_price(price: float) -> None:
    policy = started(LearnerGatePolicy())
    with torch.no_grad():
        policy.weight_YDK.normal_(generator=torch.Generator().manual_seed(2))
        policy.intercept_YK.zero_()
    bid_BLN = bids(policy, states()).detach()
    # Enough supply for what is wanted, and not enough for everybody.
    order = bid_BLN, tariff(), *terms(0.97), posted(price)
    clearing, _ = OrderedLearners(order="index").clear(*order)
    bought, sizes = 0, set()
    for row, length in enumerate(LENGTHS):
        gflops_N = tariff().token_flops_BNL[row, :, 0].double() / 1e9
        for token in range(length):
            for line in (slice(0, SHAPE.heads), slice(SHAPE.heads, None)):
                gain_N = bid_BLN[row, token, line].double() - price * gflops_N[line]
                surplus = [float(gain_N[:k].sum()) for k in range(len(gain_N) + 1)]
                best = max(range(len(surplus)), key=surplus.__getitem__)
                served_N = clearing.allocation_BLN[row, token, line]
                assert served_N.tolist() == [1.0] * best + [0.0] * (len(gain_N) - best)
                bought, sizes = bought + best, sizes | {best}
    assert len(sizes) > 3
    assert bought == int(clearing.allocation_BLN.sum())


def test_a_gate_learns_how_many_blocks_a_token_needs() -> None:
    """Blocks cost a quarter of what they bring, up to one for some tokens and three for others."""
    policy = started(LearnerGatePolicy())
    adam = torch.optim.Adam(policy.parameters(), lr=0.05)
    mechanism = OrderedLearners(order="index")
    blocks = slice(SHAPE.heads, None)
    place_N = torch.arange(SHAPE.agents - SHAPE.heads)

    def needed(hidden_BLD: Tensor) -> Tensor:
        count_BL = torch.where(hidden_BLD[..., 0] > 0, 3, 1)
        return (place_N < count_BL[..., None]) & MASK_BL[..., None]

    for step in range(200):
        hidden_BLD = states(step)
        clearing, _ = mechanism.relax(
            bids(policy, hidden_BLD), tariff(), *terms(0.97), posted(0.5), temperature=0.2
        )
        gate_BLN = clearing.allocation_BLN[..., blocks]
        adam.zero_grad()
        (gate_BLN * torch.where(needed(hidden_BLD), -1.0, 0.25)).sum().backward()
        adam.step()
    hidden_BLD = states(1000)
    with torch.no_grad():
        bid_BLN = bids(policy, hidden_BLD)
    clearing, _ = mechanism.clear(bid_BLN, tariff(), *terms(0.97), posted(0.5))
    right_BLN = clearing.allocation_BLN[..., blocks].bool() == needed(hidden_BLD)
    assert float(right_BLN[MASK_BL].float().mean()) > 0.9


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "mechanism"),
    [
        ("router", {"name": "token_top_k"}),
        ("learner_gate", {"name": "ordered_learners", "options": {"order": "index"}}),
    ],
)
def test_they_bid_right_after_founding(policy: str, mechanism: dict[str, Any]) -> None:
    economy = Economy.from_model(
        tiny_model("bert"), block_size=BLOCK_SIZE, budget_fraction=0.6,
        mechanism=mechanism, policy={"name": policy},
    )  # fmt: skip
    with pytest.raises(EconomyError, match="has no tables yet"):
        economy(**tiny_batch())
    (own,) = economy.policies
    assert isinstance(own, TrainablePolicy)
    gflops_N = layer_tariff(economy.adapter.shape, torch.ones(1, 9).bool()).token_flops_BNL[0, :, 0]
    own.start(HIDDEN, (gflops_N / 1e9).expand(LAYERS, AGENTS), N_HEADS)
    for _ in range(3):
        with torch.no_grad():
            receipt = economy(**tiny_batch()).receipt
        assert 0.1 < receipt.flops_fraction <= 0.6


def test_bad_options_are_refused() -> None:
    with pytest.raises(EconomyError, match=r"chance in \(0, 1\)"):
        LearnerGatePolicy(start_chance=1.0)
    with pytest.raises(EconomyError, match="5 heads among 4 agents"):
        LearnerGatePolicy().start(8, torch.ones(2, 4), 5)
