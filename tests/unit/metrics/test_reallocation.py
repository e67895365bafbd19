"""Shares, their parts and token values against plain loops and numbers made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from agent_economy.metrics.attention import attention_spread
from agent_economy.metrics.inequality import gini
from agent_economy.metrics.reallocation import (
    Sums,
    layer_sums,
    row_gini,
    share_on,
    top_tokens,
)
from agent_economy.metrics.token_value import idf_table, leave_one_out, ranked_tokens, saliency

LENGTHS, HEADS = (7, 4, 1), 3


def mask() -> Tensor:
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def attention(seed: int, causal: bool) -> Tensor:
    """Random attention to the keys in sight, queries of padding included."""
    length = max(LENGTHS)
    seen = mask()[:, None, None] & torch.ones(length, length, dtype=torch.bool).tril_(
        0 if causal else length
    )
    logits = 2 * torch.randn(
        3, HEADS, length, length, generator=torch.Generator().manual_seed(seed)
    )
    return logits.masked_fill(~seen, -torch.inf).softmax(-1)


def gates(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(3, max(LENGTHS), HEADS, generator=generator) < 0.6).float()


@pytest.mark.parametrize("causal", [False, True])
def test_sums_are_those_of_plain_loops(causal: bool) -> None:
    weights, gate = attention(0, causal), gates(1)
    sums = layer_sums(weights, gate, mask(), causal=causal)
    for row, length in enumerate(LENGTHS):
        received = [0.0] * max(LENGTHS)
        entropy = relative = served = choosing = 0.0
        for q in range(length):
            for h in range(HEADS):
                g = float(gate[row, q, h])
                seen = q + 1 if causal else length
                each = 0.0
                for k in range(seen):
                    a = float(weights[row, h, q, k])
                    received[k] += g * a
                    each -= a * math.log(a) if a > 0 else 0.0
                entropy, served = entropy + g * each, served + g
                if seen > 1:
                    relative, choosing = relative + g * each / math.log(seen), choosing + g
        assert sums.received_BL[row].tolist() == pytest.approx(received, abs=1e-6)
        assert sums.open_heads[row] == pytest.approx(served / (length * HEADS))
        if served:
            assert sums.entropy[row] == pytest.approx(entropy / served, rel=1e-5, abs=1e-9)
        if choosing:
            assert sums.relative_entropy[row] == pytest.approx(relative / choosing, rel=1e-5)
            assert 0 <= sums.relative_entropy[row] <= 1 + 1e-6
    assert math.isnan(sums.relative_entropy[2])  # one token: nothing to choose


def test_share_is_that_of_plain_loops_over_layers() -> None:
    layers = [(attention(seed, False), gates(seed + 9)) for seed in range(2)]
    ranked = mask().clone()
    ranked[:, 0] = False
    ranked[:, 3] = False
    top = top_tokens(torch.rand(ranked.shape), ranked, 0.5)
    pooled = Sums.pooled(layer_sums(a, g, mask(), causal=False) for a, g in layers)
    found = share_on(pooled.received_BL, top, ranked)
    for row, length in enumerate(LENGTHS[:2]):
        on_top = on_ranked = 0.0
        for weights, gate in layers:
            for q in range(length):
                for h in range(HEADS):
                    for k in range(length):
                        a = float(gate[row, q, h] * weights[row, h, q, k])
                        on_top += a if top[row, k] else 0.0
                        on_ranked += a if ranked[row, k] else 0.0
        assert found[row] == pytest.approx(on_top / on_ranked, rel=1e-6)
    assert math.isnan(found[2])  # its one token is not ranked


def test_a_row_does_not_depend_on_its_padding() -> None:
    weights, gate = attention(4, False), gates(5)
    sums = layer_sums(weights, gate, mask(), causal=False)
    alone = layer_sums(weights[1:2, :, :4, :4], gate[1:2, :4], mask()[1:2, :4], causal=False)
    assert torch.allclose(sums.received_BL[1, :4], alone.received_BL[0])
    assert sums.entropy[1] == pytest.approx(float(alone.entropy[0]))
    assert not sums.received_BL[1, 4:].any()


def test_parts_add_up_and_say_what_moved() -> None:
    """Same attention: all is composition. Same gates: all is within heads."""
    one = torch.ones_like(gates(0))
    gate, dense, scarce = gates(7), attention(1, False), attention(2, False)
    top = top_tokens(torch.rand(mask().shape), mask())

    def share(g: Tensor, a: Tensor) -> Tensor:
        return share_on(layer_sums(a, g, mask(), causal=False).received_BL, top, mask())

    composition = share(gate, dense) - share(one, dense)
    within = share(gate, scarce) - share(gate, dense)
    whole = share(gate, scarce) - share(one, dense)
    assert torch.allclose(composition + within, whole, atol=1e-15, equal_nan=True)
    assert composition[:2].abs().min() > 1e-4 and within[:2].abs().min() > 1e-4
    # A head that never looks at the top tokens is dropped: attention itself did not change.
    sharp = torch.zeros(1, 2, 4, 4)
    sharp[0, 0, :, 0] = sharp[0, 1, :, 1] = 1.0
    ones, last = torch.ones(1, 4, 2), torch.tensor([0.0, 1.0]).expand(1, 4, 2)
    real, second = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, True, False, False]])
    both = share_on(layer_sums(sharp, ones, real, causal=False).received_BL, second, real)
    left = share_on(layer_sums(sharp, last, real, causal=False).received_BL, second, real)
    assert both.item() == 0.5 and left.item() == 1.0


def test_gini_and_entropy_are_those_of_the_scarcity_study() -> None:
    weights, gate = attention(3, False), gates(4)
    sums = layer_sums(weights, gate, mask(), causal=False)
    found = row_gini(sums.received_BL, mask())
    for row, length in enumerate(LENGTHS):
        assert found[row] == pytest.approx(float(gini(sums.received_BL[row, :length])))
        spread = attention_spread(
            [weights[row : row + 1]], [gate[row : row + 1]], mask()[row, None]
        )
        assert spread.entropy == pytest.approx(float(sums.entropy[row].nan_to_num()), abs=1e-9)
        assert spread.gini == pytest.approx(float(found[row].nan_to_num()), abs=1e-9)


def test_closed_everywhere_is_not_a_number() -> None:
    sums = layer_sums(attention(0, False), torch.zeros(3, 7, HEADS), mask(), causal=False)
    top = top_tokens(torch.rand(mask().shape), mask())
    assert sums.entropy.isnan().all() and row_gini(sums.received_BL, mask()).isnan().all()
    assert share_on(sums.received_BL, top, mask()).isnan().all()
    assert (sums.open_heads == 0).all()


def test_the_top_fifth_is_a_fifth_at_most_and_one_at_least() -> None:
    lengths = torch.tensor([20, 15, 14, 4, 1, 0])
    ranked = torch.arange(20) < lengths[:, None]
    value = torch.rand(ranked.shape, generator=torch.Generator().manual_seed(0))
    top = top_tokens(value, ranked, 0.2)
    assert top.sum(1).tolist() == [4, 3, 2, 1, 1, 0]
    for row, count in enumerate([4, 3, 2, 1, 1]):
        order = sorted(range(lengths[row]), key=lambda k: -float(value[row, k]))
        assert set(top[row].nonzero()[:, 0].tolist()) == set(order[:count])
    ties = top_tokens(torch.ones(1, 10), torch.ones(1, 10, dtype=torch.bool), 0.2)
    assert ties.nonzero()[:, 1].tolist() == [0, 1]


def test_idf_by_hand() -> None:
    """Four texts; token 2 in three of them (twice in one), token 0 in one, token 3 in none."""
    table = idf_table([[0, 2, 2], [2], [1, 2], [1]], 4)
    assert table.tolist() == pytest.approx(
        [math.log(5 / 2) + 1, math.log(5 / 3) + 1, math.log(5 / 4) + 1, math.log(5) + 1]
    )


def test_saliency_is_the_norm_of_the_product() -> None:
    embedding, gradient = torch.randn(2, 3, 4).unbind(0), torch.randn(2, 3, 4).unbind(0)
    found = saliency(torch.stack(embedding), torch.stack(gradient))
    for row in range(2):
        for token in range(3):
            square = sum(
                float(e * g) ** 2
                for e, g in zip(embedding[row][token], gradient[row][token], strict=True)
            )
            assert found[row, token] == pytest.approx(math.sqrt(square), rel=1e-6)


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_leave_one_out_asks_for_every_ranked_token_once(at_once: int) -> None:
    ranked = mask().clone()
    ranked[:, 0] = False
    worth = torch.randn(ranked.shape, dtype=torch.float64)

    def change(row: Tensor, token: Tensor, without: Tensor) -> Tensor:
        assert len(row) <= at_once
        left_out = mask()[row] & ~without
        assert (left_out.sum(1) == 1).all() and left_out[torch.arange(len(row)), token].all()
        return worth[row, token]

    found = leave_one_out(change, mask(), ranked, at_once)
    assert torch.equal(found, torch.where(ranked, worth.abs(), 0.0))


def test_special_tokens_and_a_decoders_first_do_not_compete() -> None:
    ids = torch.tensor([[5, 8, 9, 6, 0], [8, 5, 7, 0, 0]])
    real = ids != 0
    encoder = ranked_tokens(ids, real, {0, 5, 6}, causal=False)
    assert encoder.tolist() == [
        [False, True, True, False, False],
        [True, False, True, False, False],
    ]
    decoder = ranked_tokens(ids, real, {0}, causal=True)
    assert decoder.tolist() == [[False, True, True, True, False], [False, True, True, False, False]]
