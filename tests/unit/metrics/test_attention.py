"""Attention spread against hand-made cases."""

from __future__ import annotations

import math

import pytest
import torch

from agent_economy.metrics.attention import attention_spread, mean_attention


def uniform_attention(length: int, heads: int = 2) -> torch.Tensor:
    return torch.full((1, heads, length, length), 1 / length)


def test_uniform_attention_has_full_entropy_and_no_inequality() -> None:
    spread = attention_spread(
        [uniform_attention(4)], [torch.ones(1, 4, 2)], torch.ones(1, 4, dtype=torch.bool)
    )
    assert spread.entropy == pytest.approx(math.log(4))
    assert spread.gini == pytest.approx(0, abs=1e-12)
    assert torch.allclose(spread.received_BL, torch.full((1, 4), 0.25))


def test_a_closed_head_does_not_count() -> None:
    diffuse, sharp = torch.full((3, 3), 1 / 3), torch.eye(3)
    attention = torch.stack((diffuse, sharp))[None]
    gate = torch.tensor([[0.0, 1.0]]).expand(1, 3, 2)
    spread = attention_spread([attention], [gate], torch.ones(1, 3, dtype=torch.bool))
    assert spread.entropy == pytest.approx(0, abs=1e-12)
    assert torch.equal(mean_attention(attention, gate)[0], sharp)


def test_padding_is_left_out() -> None:
    attention = torch.zeros(1, 1, 3, 3)
    attention[..., 0] = 1.0  # everybody, padding too, looks at the first token
    mask = torch.tensor([[True, True, False]])
    spread = attention_spread([attention], [torch.ones(1, 3, 1)], mask)
    assert spread.gini == pytest.approx(0.5)  # all of it to one of two tokens
    assert torch.equal(spread.received_BL, torch.tensor([[1.0, 0.0, 0.0]]))


def test_nothing_served_is_zero() -> None:
    attention, gate = uniform_attention(2), torch.zeros(1, 2, 2)
    spread = attention_spread([attention], [gate], torch.ones(1, 2, dtype=torch.bool))
    assert spread.entropy == 0 and spread.gini == 0
    assert torch.equal(mean_attention(attention, gate), torch.zeros(1, 2, 2))
