from dataclasses import replace

import pytest
import torch

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariff
from agent_economy.mechanisms.posted_price import PostedPrice
from agent_economy.testing import Market
from agent_economy.testing.mechanism_contract import flops_spent

#: A layer of MiniLM.
SHAPE = LayerShape(384, 12, 12, 32, 1536, 2, 128, causal=False)


def stationary(seed: int, fraction: float, *, tokens: int = 128) -> Market:
    """Three rows of lognormal bids, the same law for every agent and token."""
    generator = torch.Generator().manual_seed(seed)
    mask_BL = torch.arange(tokens) < torch.tensor([[tokens], [tokens - 7], [tokens // 2]])
    tariff = layer_tariff(SHAPE, mask_BL)
    law = torch.randn(3, tokens, SHAPE.agents, generator=generator, dtype=torch.float64).exp()
    bid_BLN = law * tariff.double_BNL.transpose(1, 2) / 1e4
    limit_BN = torch.full((3, SHAPE.agents), 1e30, dtype=torch.float64)
    supply_BL = (tariff.dense_flops_BL * fraction).long()
    return Market(bid_BLN, tariff, supply_BL, torch.ones(SHAPE.agents).bool(), limit_BN)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.8])
def test_spend_converges_near_supply(fraction: float) -> None:
    mechanism, state = PostedPrice(), {}
    shares = []
    for forward in range(20):
        market = stationary(forward, fraction)
        clearing, state = market.clear(mechanism, state)
        assert (clearing.spend_flops <= market.supply_flops_BL.sum(1)).all()
        shares.append(float(clearing.spend_flops.sum() / market.supply_flops_BL.sum()))
    late = sum(shares[10:]) / 10
    assert 0.85 <= late <= 1, shares


def test_price_follows_demand() -> None:
    mechanism = PostedPrice()
    _, state = stationary(0, 0.5).clear(mechanism, {})
    for _ in range(10):
        _, state = stationary(0, 0.5).clear(mechanism, state)
    _, scarcer = stationary(0, 0.1).clear(mechanism, state)
    _, richer = stationary(0, 0.9).clear(mechanism, state)
    assert scarcer["price"] > state["price"] > richer["price"]


def test_the_price_posted_was_learned_before() -> None:
    mechanism = PostedPrice()
    _, state = stationary(0, 0.5).clear(mechanism, {})
    clearing, _ = stationary(1, 0.5).clear(mechanism, state)
    assert (clearing.price == state["price"]).all()
    density_BLN = stationary(1, 0.5).goods("sequence").density_BNL.transpose(1, 2)
    assert (density_BLN[clearing.allocation_BLN == 1] >= state["price"]).all()


def test_free_tokens_spend_what_has_accrued() -> None:
    """Heads that grow dear with position, blocks muted: only the first tokens fit whole."""
    flops = torch.tensor([[[10, 30, 60, 90], [10, 30, 60, 90], [200] * 4]])
    tariff = Tariff(flops, torch.zeros(0).long(), torch.ones(1, 4).bool())
    state = {
        # A price that no bid before the last token covers, so that supply would accrue.
        "price": torch.tensor(5e8, dtype=torch.float64),
        "standing_N": torch.ones(3, dtype=torch.float64),
        "surplus_U": torch.zeros(0, dtype=torch.float64),
    }
    bid_BLN = torch.tensor([[[0.1, 0.1, 0.0]] * 2 + [[1e3, 1e3, 0.0]] * 2], dtype=torch.float64)
    active_N = torch.tensor([True, True, False])
    limit_BN = torch.full((1, 3), 1e30, dtype=torch.float64)
    supply_BL = torch.tensor([[70, 70, 70, 70]])
    market = Market(bid_BLN, tariff, supply_BL, active_N, limit_BN)
    for length in range(1, 5):
        clearing, _ = market.cut(length).clear(PostedPrice(), state)
        own_BL, _ = flops_spent(market.cut(length), clearing.allocation_BLN)
        assert own_BL.sum() <= 70 * length
    assert clearing.allocation_BLN[0, :2].tolist() == [[1, 1, 0]] * 2


def test_muted_units_reserve_nothing() -> None:
    market = stationary(0, 1.0)
    muted = replace(market, active_N=torch.arange(SHAPE.agents) >= 2)
    clearing, _ = muted.clear(PostedPrice(), {})
    assert torch.equal(clearing.allocation_BLN.bool(), muted.may_BLN)
