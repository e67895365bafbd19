from dataclasses import replace

import pytest
import torch

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.mechanisms.uniform import Uniform
from agent_economy.testing import Market

SHAPE = LayerShape(64, 8, 4, 8, 320, 2, 64, causal=True)


def market(shape: LayerShape, fraction: float) -> Market:
    tariff = layer_tariff(shape, torch.arange(6) < torch.tensor([[6], [4]]))
    bid_BLN = torch.ones(2, 6, shape.agents, dtype=torch.float64)
    limit_BN = torch.full((2, shape.agents), 1e30, dtype=torch.float64)
    supply_BL = (tariff.dense_flops_BL * fraction).long()
    return Market(bid_BLN, tariff, supply_BL, torch.ones(shape.agents).bool(), limit_BN)


@pytest.mark.parametrize(
    ("fraction", "units", "blocks"), [(0.25, 1, 1), (0.5, 2, 2), (0.61, 2, 3), (0.75, 3, 3)]
)
def test_the_same_fraction_of_every_kind(fraction: float, units: int, blocks: int) -> None:
    clearing, _ = market(SHAPE, fraction).clear(Uniform())
    served_N = clearing.allocation_BLN[0, 0]
    assert served_N[:8].reshape(4, 2).all(-1).sum() == units
    assert served_N[:8].sum() == 2 * units
    assert served_N[8:].sum() == blocks
    assert (clearing.allocation_BLN[0] == served_N).all()


def test_a_large_block_waits_for_its_supply() -> None:
    shape = replace(SHAPE, ffn=80)  # blocks of 64 and 16 neurons
    for seed in range(20):
        order = market(shape, 0.5)
        clearing, _ = order.clear(Uniform(), order.state(Uniform(), seed))
        assert (clearing.spend_flops <= order.supply_flops_BL.sum(1)).all()


def test_the_draw_follows_the_seed() -> None:
    order = market(SHAPE, 0.5)

    def drawn(seed: int) -> torch.Tensor:
        return order.clear(Uniform(), order.state(Uniform(), seed))[0].allocation_BLN

    assert torch.equal(drawn(3), drawn(3))
    assert any(not torch.equal(drawn(3), drawn(seed)) for seed in range(4, 9))


def test_muted_agents_draw_no_lot() -> None:
    order = market(SHAPE, 0.5)
    muted = replace(order, active_N=torch.arange(SHAPE.agents) % 8 >= 4)  # 2 units, 1 block
    clearing, _ = muted.clear(Uniform())
    assert torch.equal(clearing.allocation_BLN.bool(), muted.may_BLN)
