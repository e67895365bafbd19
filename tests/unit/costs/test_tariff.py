import pytest
import torch

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariff

# Two heads of three dimensions in a model of four; eight neurons in blocks of five and three.
ENCODER = LayerShape(
    hidden=4, heads=2, kv_heads=2, head_dim=3, ffn=8, ffn_matrices=2, block_size=5, causal=False
)
REAL = torch.tensor([[True, True, True], [True, True, False]])


def test_blocks_and_agents() -> None:
    assert ENCODER.block_sizes == (5, 3)
    assert ENCODER.agents == 4
    assert LayerShape(4, 2, 2, 3, 8, 2, 4, causal=False).block_sizes == (4, 4)
    assert LayerShape(4, 2, 2, 3, 8, 2, 100, causal=False).block_sizes == (8,)


def test_encoder_by_hand() -> None:
    tariff = layer_tariff(ENCODER, REAL)
    # Query and output slices: 2 * 4*3 multiply-adds. Scores and mixing: 2 * 3 for each of the
    # row's real tokens, 3 and 2. Blocks: two matrices of 4 by 5 or 3.
    assert tariff.token_flops_BNL.tolist() == [
        [[2 * (24 + 18)], [2 * (24 + 18)], [2 * 40], [2 * 24]],
        [[2 * (24 + 12)], [2 * (24 + 12)], [2 * 40], [2 * 24]],
    ]
    # Keys and values: 2 * 4*3 multiply-adds per context token.
    assert tariff.setup_flops_U.tolist() == [48, 48]
    assert tariff.setup_flops_BU.tolist() == [[144, 144], [96, 96]]
    assert tariff.length_B.tolist() == [3, 2]
    assert tariff.served_flops_BN.tolist() == [[252, 252, 240, 144], [144, 144, 160, 96]]


def test_decoder_grows_with_position() -> None:
    shape = LayerShape(4, 1, 1, 3, 8, 3, 8, causal=True)
    tariff = layer_tariff(shape, REAL)
    head_BL, block_BL = tariff.token_flops_BNL.unbind(1)
    assert head_BL[0].tolist() == [2 * (24 + 6), 2 * (24 + 12), 2 * (24 + 18)]
    assert head_BL[1, :2].tolist() == head_BL[0, :2].tolist()
    assert block_BL.tolist() == [[2 * 3 * 4 * 8] * 3] * 2


def test_query_heads_share_the_fee_of_their_keys() -> None:
    tariff = layer_tariff(LayerShape(4, 6, 2, 3, 8, 3, 8, causal=True), REAL)
    assert tariff.group == 3
    assert tariff.fee_agents == 6
    assert tariff.setup_flops_U.tolist() == [48, 48]


@pytest.mark.parametrize("causal", [False, True])
def test_dense_flops_of_tokens_add_up(causal: bool) -> None:
    shape = LayerShape(4, 6, 2, 3, 8, 3, 5, causal=causal)
    tariff = layer_tariff(shape, REAL)
    dense_B = tariff.served_flops_BN.sum(1) + tariff.setup_flops_BU.sum(1)
    assert tariff.dense_flops_BL.sum(1).tolist() == dense_B.tolist()
    assert tariff.dense_flops_BL[1, 2] == 0


def test_whole_layer_by_hand() -> None:
    """Four projections, scores and mixing, two FFN matrices, over six tokens."""
    shape = LayerShape(4, 2, 2, 2, 8, 2, 5, causal=False)
    tariff = layer_tariff(shape, torch.ones(1, 6, dtype=torch.bool))
    projections, attention, ffn = 4 * 6 * 4 * 4, 2 * 6 * 6 * 4, 2 * 6 * 4 * 8
    assert tariff.dense_flops_BL.sum().item() == 2 * (projections + attention + ffn)


def test_computed_flops_include_padding_and_the_future() -> None:
    shape = LayerShape(4, 2, 2, 2, 8, 2, 5, causal=True)
    computed = layer_tariff(shape, REAL, computed=True)
    square = layer_tariff(
        LayerShape(4, 2, 2, 2, 8, 2, 5, causal=False), torch.ones(2, 3, dtype=torch.bool)
    )
    assert torch.equal(computed.dense_flops_BL, square.dense_flops_BL)


def test_flops_are_whole_numbers() -> None:
    tariff = layer_tariff(ENCODER, REAL)
    assert tariff.token_flops_BNL.dtype == torch.int64
    assert tariff.setup_flops_U.dtype == torch.int64
    assert tariff.dense_flops_BL.dtype == torch.int64


@pytest.mark.parametrize("columns", [1, 3])
def test_total_flops_of_soft_gates(columns: int) -> None:
    flops = torch.arange(1, 2 * 2 * columns + 1).reshape(2, 2, columns)
    tariff = Tariff(flops, torch.zeros(0, dtype=torch.long), REAL)
    gate_BNL = torch.rand(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = (gate_BNL * flops.expand(2, 2, 3)).sum(-1)
    torch.testing.assert_close(tariff.total_flops_BN(gate_BNL), expected)
