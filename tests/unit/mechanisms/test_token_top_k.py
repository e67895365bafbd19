import torch

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.token_top_k import TokenTopK
from agent_economy.testing import Market


def market(bid: list[list[float]], tariff: Tariff, supply: int) -> Market:
    bid_BLN = torch.tensor([bid], dtype=torch.float64)
    tokens, agents = bid_BLN.shape[1:]
    supply_BL = torch.full((1, tokens), supply)
    limit_BN = torch.full((1, agents), 1e30, dtype=torch.float64)
    return Market(bid_BLN, tariff, supply_BL, torch.ones(agents).bool(), limit_BN)


def blocks(tokens: int) -> Tariff:
    return Tariff(torch.tensor([[[10], [20]]]), torch.zeros(0).long(), torch.ones(1, tokens).bool())


def test_every_agent_serves_the_same_share_of_its_own_tokens() -> None:
    bid = [[1.0, 8.0], [2.0, 7.0], [3.0, 6.0], [4.0, 5.0]]
    clearing, _ = market(bid, blocks(4), 15).clear(TokenTopK())
    assert clearing.allocation_BLN[0].tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    # The cut-off is the dearest token left unserved: 2 credits for 10 FLOPs, 6 for 20.
    assert clearing.price.flatten().tolist() == [2e8, 3e8]


def test_fees_take_at_most_half_of_supply() -> None:
    # Two heads; each costs 2 tokens * 10 FLOPs to open. Half of 60 opens one: the better one.
    tariff = Tariff(torch.tensor([[[10], [10]]]), torch.tensor([10, 10]), torch.ones(1, 2).bool())
    clearing, _ = market([[1.0, 3.0], [1.0, 3.0]], tariff, 30).clear(TokenTopK())
    assert clearing.allocation_BLN[0].tolist() == [[0, 1], [0, 1]]
    assert clearing.spend_flops.tolist() == [40]


def test_soft_gates_are_the_served_tokens_router_weights() -> None:
    bid = [[1.0, 8.0], [2.0, 7.0], [3.0, 6.0], [4.0, 5.0]]
    order = market(bid, blocks(4), 15)
    hard, _ = order.clear(TokenTopK())
    soft, _ = order.relax(TokenTopK(), 1e8)
    assert (soft.allocation_BLN[hard.allocation_BLN == 0] == 0).all()
    expected = torch.sigmoid(torch.tensor((4 / 10 * 1e9 - 2e8) / 1e8, dtype=torch.float64))
    torch.testing.assert_close(soft.allocation_BLN[0, 3, 0], expected)
