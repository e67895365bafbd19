"""All layers in one market: the price list, budgets, and what foresight is worth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, tiny_batch, tiny_model
from torch import Tensor

from agent_economy import Economy
from agent_economy.costs.tariff import layer_tariff
from agent_economy.market.joint import joint_tariff, stack, unstack
from agent_economy.mechanisms import MECHANISMS

MARKETS = [
    (name, scope) for name, member in MECHANISMS.members().items() for scope in member.scopes
]


def founded(timing: str, name: str = "uniform_price", scope: str = "sequence") -> Economy:
    economy = Economy.from_model(
        tiny_model("bert"),
        mechanism={"name": name, "scope": scope, "timing": timing},
        block_size=BLOCK_SIZE,
        budget_fraction=0.5,
        wallet={"endowment_credits": 1e9},
    )

    def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        return output[0].square().sum()

    economy.calibrate([tiny_batch((11, 9), seed=s) for s in (7, 8)], squared)
    return economy


def test_agents_of_all_layers_stand_side_by_side() -> None:
    shape = founded("spot").adapter.shape
    mask_BL = torch.tensor([[True] * 5, [True, True, False, False, False]])
    one = layer_tariff(shape, mask_BL)
    joint = joint_tariff([one] * LAYERS)
    assert joint.fee_agents == LAYERS * one.fee_agents
    assert torch.equal(joint.dense_flops_BL, LAYERS * one.dense_flops_BL)
    parts = [torch.rand(2, 5, AGENTS) for _ in range(LAYERS)]
    side_by_side = stack(parts, one.fee_agents)
    flops = stack([one.token_flops_BNL.transpose(1, 2)] * LAYERS, one.fee_agents)
    assert torch.equal(flops, joint.token_flops_BNL.transpose(1, 2))
    back = unstack(side_by_side, LAYERS, one.fee_agents)
    assert all(torch.equal(x, y) for x, y in zip(parts, back, strict=True))
    assert unstack(torch.ones(2, 1, 1), 3, 4)[2].shape == (2, 1, 1)


@pytest.mark.parametrize("timing", ["forward", "trace"])
@pytest.mark.parametrize(("name", "scope"), MARKETS)
@torch.no_grad()
def test_a_joint_market_keeps_to_the_supply_of_all_layers(
    name: str, scope: str, timing: str
) -> None:
    with torch.enable_grad():
        economy = founded(timing, name, scope)
    batch = tiny_batch()
    for budget in (0.9, 0.5, 0.15):
        economy.market.budget_fraction = budget
        receipt = economy(**batch).receipt
        if economy.market.mechanism.guarantees.feasible:
            assert receipt.spend_flops <= receipt.supply_flops
        # Where supply cannot pay for a market none is run, and nothing is traced.
        traced = timing == "trace" and any(economy.market.offer.run_Y)
        assert receipt.trace_flops == (receipt.dense_flops if traced else 0)
        economy.ledger.check()


@torch.no_grad()
def test_flops_move_between_layers_where_bids_say_so() -> None:
    with torch.enable_grad():
        spot, joint = founded("spot"), founded("trace")

    def spread(economy: Economy) -> Tensor:
        receipt = economy(**tiny_batch()).receipt
        return torch.stack([receipt.agent_flops_BLN(y).sum() for y in range(LAYERS)]).double()

    alone, together = spread(spot), spread(joint)
    assert together.std() > 1.2 * alone.std()


@torch.no_grad()
def test_a_joint_market_serves_more_declared_value_for_the_same_bids() -> None:
    """One budget for all layers relaxes one for each; a trace sees the bids of the dense pass."""
    with torch.enable_grad():
        economy = founded("trace")
    market, batch = economy.market, tiny_batch()
    joint = economy(**batch).receipt
    bids = market.bids
    spend = welfare = 0.0
    for layer in range(LAYERS):
        order = (
            bids[layer],
            market.offer.tariffs[layer],
            market.offer.for_agents(layer),
            market.course.active_YN[layer],
        )
        clearing, _ = market.mechanism.clear(*order, market.course.limit_YBN[layer], {})
        welfare += float(clearing.welfare.sum())
        spend += float(clearing.spend_flops.sum())
    assert joint.welfare > welfare
    assert joint.spend_flops - joint.market_flops <= spend * 1.05


@torch.no_grad()
def test_forward_bids_are_read_from_what_enters_the_first_layer() -> None:
    with torch.enable_grad():
        economy = founded("forward")
    economy(**tiny_batch())
    weights = economy.policies[0].weight_YDN
    assert len(economy.market.states) == 1
    first = economy.market.bids[0]
    assert first.shape[-1] == AGENTS and len(economy.market.bids) == LAYERS
    # The same inputs give the same bids in every layer whose readout is the same.
    economy.policies[0].weight_YDN.copy_(weights[:1].expand_as(weights))
    for table in (economy.policies[0].intercept_YN, economy.policies[0].floor_YN):
        table.copy_(table[:1].clone().expand_as(table))
    economy(**tiny_batch())
    torch.testing.assert_close(economy.market.bids[0], economy.market.bids[LAYERS - 1])


@torch.no_grad()
def test_a_joint_economy_is_saved_and_comes_back(tmp_path: Any) -> None:
    with torch.enable_grad():
        economy = founded("forward", "posted_price")
    economy(**tiny_batch())
    economy.save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    assert again.market.timing == "forward"
    assert torch.equal(economy(**tiny_batch())[0], again(**tiny_batch())[0])
