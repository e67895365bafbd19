"""Contributions: games solved by hand and by all orders; ratings; rank agreement."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from agent_economy.metrics.contribution import (
    leave_one_out,
    rank_agreement,
    ratings,
    sampled_shapley,
)


def gloves(present_BA: Tensor) -> Tensor:
    """Agents 0 and 1 hold a left glove each, agent 2 a right one; a pair is worth one."""
    return ((present_BA[:, 0] | present_BA[:, 1]) & present_BA[:, 2]).double()


def additive(present_BA: Tensor) -> Tensor:
    return (present_BA * torch.tensor([3.0, -1.0, 0.5])).sum(1)


def test_leave_one_out_by_hand() -> None:
    found = leave_one_out(gloves, 2, 3)
    assert found.tolist() == [[0, 0, 1], [0, 0, 1]]  # either left glove can be spared
    torch.testing.assert_close(
        leave_one_out(additive, 1, 3), torch.tensor([[3.0, -1, 0.5]]).double()
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_shapley_of_gloves(reverse: bool) -> None:
    """All six orders give (1/6, 1/6, 4/6)."""
    exact = torch.zeros(3, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        present = torch.zeros(1, 3, dtype=torch.bool)
        for agent in order:
            before = gloves(present)
            present[:, agent] = True
            exact[agent] += float(gloves(present) - before) / 6
    assert exact.tolist() == pytest.approx([1 / 6, 1 / 6, 4 / 6])
    generator = torch.Generator().manual_seed(0)
    found = sampled_shapley(gloves, 4000, 3, generator, reverse=reverse)
    torch.testing.assert_close(found.mean(0), exact, atol=0.02, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(4000).double())  # efficiency, row by row


def test_shapley_of_what_adds_up_is_exact_at_once() -> None:
    found = sampled_shapley(additive, 5, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, torch.tensor([3.0, -1, 0.5]).double().expand(5, 3))


def test_going_backwards_too_is_steadier() -> None:
    one = sampled_shapley(gloves, 3000, 3, torch.Generator().manual_seed(2), reverse=False)
    both = sampled_shapley(gloves, 3000, 3, torch.Generator().manual_seed(2))
    assert float(both.var(0).sum()) < 0.6 * float(one.var(0).sum())


def test_ratings_rank_as_results_do() -> None:
    pytest.importorskip("openskill")
    generator = torch.Generator().manual_seed(0)
    skill = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    scores = skill + torch.randn(40, 5, generator=generator)
    found = ratings(scores)
    assert found.mean_A.argsort().tolist() == [0, 1, 2, 3, 4]
    assert (found.spread_A < 25 / 3).all()  # surer than at the start
    shifted = ratings(scores * 7 + 1)
    torch.testing.assert_close(found.mean_A, shifted.mean_A)  # only ranks count


def test_rank_agreement_is_spearmans() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(12, 20, generator=generator).double()
    other = one + 0.4 * torch.rand(12, 20, generator=generator)
    found = rank_agreement(one, other)
    expected = spearmanr(one.mean(0), other.mean(0)).statistic
    assert found.value == pytest.approx(expected)
    assert found.low <= found.high <= 1
    some = torch.arange(20) < 8
    part = spearmanr(one.mean(0)[:8], other.mean(0)[:8]).statistic
    assert rank_agreement(one, other, some).value == pytest.approx(part)
