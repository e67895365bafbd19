"""Losses against hand-made numbers, schedules at their ends, blocks of sorted neurons."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from models import BLOCK_SIZE, tiny_batch, tiny_model
from torch import Tensor
from torch.nn import functional as F

from agent_economy.adapters import adapter_for
from agent_economy.training.forming import neuron_fisher, sort_neurons
from agent_economy.training.objective import SOFTNESS, hidden_distance, logit_distance, task_loss
from agent_economy.training.schedule import annealed, geometric


def test_task_losses() -> None:
    assert task_loss(torch.tensor([[1.0], [4.0]]), torch.tensor([2.0, 2.0])) == 2.5
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert float(task_loss(logits, torch.tensor([1]))) == pytest.approx(-math.log(0.75))


def test_logit_distance_is_the_divergence_of_softened_classes() -> None:
    own, theirs = torch.tensor([[0.3, -1.0, 0.2]]), torch.tensor([[1.0, 0.5, -2.0]])
    p = np.exp(theirs.numpy() / SOFTNESS)
    q = np.exp(own.numpy() / SOFTNESS)
    p, q = p / p.sum(), q / q.sum()
    expected = float((p * np.log(p / q)).sum()) * SOFTNESS**2
    assert float(logit_distance(own, theirs, regression=False)) == pytest.approx(expected, abs=1e-6)
    assert logit_distance(theirs, theirs, regression=False).abs() < 1e-6
    assert logit_distance(own[:, :1], theirs[:, :1], regression=True) == pytest.approx(0.49)


def test_hidden_distance_leaves_padding_out_and_is_a_share_of_variance() -> None:
    torch.manual_seed(0)
    theirs = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    own = theirs.clone()
    own[~mask] += 100.0
    assert hidden_distance([own], [theirs], mask) == 0
    real = theirs[mask]
    own = theirs + 2.0
    expected = 4.0 / float(real.var(0).mean())
    assert float(hidden_distance([own], [theirs], mask)) == pytest.approx(expected, rel=1e-5)


def selected(hidden: list[Tensor], teacher: list[Tensor], mask_BL: Tensor) -> Tensor:
    """The same distance of real tokens that are taken out first."""
    shares = []
    for own_BLD, theirs_BLD in zip(hidden, teacher, strict=True):
        own_TD, theirs_TD = own_BLD[mask_BL].float(), theirs_BLD[mask_BL].float()
        spread = theirs_TD.var(0).mean().clamp(min=1e-12)
        shares.append(F.mse_loss(own_TD, theirs_TD) / spread)
    return torch.stack(shares).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(7, 7), (9, 4, 1), (1, 1), (12, 1, 5, 8, 2, 2)])
def test_hidden_distance_is_that_of_the_selected_tokens(
    lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    mask_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    shape = (2, *mask_BL.shape, 16)
    teacher = list((torch.randn(shape, generator=generator) * 3 + 5).to(dtype))  # far from 0
    own = (torch.stack(teacher) + torch.randn(shape, generator=generator)).to(dtype)
    found, expected = (own.clone().requires_grad_() for _ in range(2))
    loss = hidden_distance(list(found), teacher, mask_BL)
    former = selected(list(expected), teacher, mask_BL)
    (3 * loss).backward()
    (3 * former).backward()
    assert loss.item() == pytest.approx(former.item(), rel=1e-6)
    assert found.grad is not None and expected.grad is not None
    assert found.grad.dtype == dtype
    apart = (found.grad - expected.grad).double().norm()
    assert apart <= 1e-6 * expected.grad.double().norm()


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_stands_at_padding_reaches_neither_loss_nor_gradient(junk: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mask_BL = torch.tensor([[True, True, True], [True, False, False]])
    own, theirs = torch.randn(2, 2, 3, 4, generator=generator)
    found = []
    for own_junk, theirs_junk in ((0.0, 0.0), (junk, 0.0), (0.0, junk), (junk, junk)):
        leaf = own.masked_fill(~mask_BL[..., None], own_junk).requires_grad_()
        teacher = theirs.masked_fill(~mask_BL[..., None], theirs_junk)
        loss = hidden_distance([leaf], [teacher], mask_BL)
        loss.backward()
        assert leaf.grad is not None and not leaf.grad[~mask_BL].any()
        found.append(torch.cat((loss.detach()[None], leaf.grad.flatten())))
    assert found[0].isfinite().all() and found[0][1:].any()
    assert all(torch.equal(each, found[0]) for each in found)


def test_hidden_distance_asks_the_device_nothing() -> None:
    # A meta tensor has no values: .item() or a boolean index would raise.
    own, theirs = torch.randn(2, 2, 3, 4, device="meta")
    mask_BL = torch.ones(2, 3, dtype=torch.bool, device="meta")
    assert hidden_distance([own], [theirs], mask_BL).shape == ()
    with pytest.raises(RuntimeError, match="meta"):
        selected([own], [theirs], mask_BL)


def test_the_budget_shrinks_to_its_target_and_stays() -> None:
    budgets = [annealed(0.25, p / 100, 0.4) for p in range(101)]
    assert budgets[0] == 1 and budgets[40:] == [0.25] * 61
    assert all(a >= b for a, b in pairwise(budgets))
    assert annealed(0.25, 0.2, 0.4) == pytest.approx(0.25 + 0.75 / 8)
    assert geometric(0.1, 0.001, 0.5) == pytest.approx(0.01)
    assert geometric(0.1, 0.001, 2.0) == pytest.approx(0.001)


def row_loss(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """A nonlinear loss that is a sum over rows."""
    hidden = output.last_hidden_state * batch["attention_mask"][..., None]
    return hidden.sum((1, 2)).square().sum()


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_neurons_are_scored_by_finite_differences_and_sorted_without_a_change(name: str) -> None:
    model, batch = tiny_model(name).double(), tiny_batch([5, 3])
    adapter = adapter_for(model, BLOCK_SIZE)
    score = neuron_fisher(adapter, [batch], row_loss)
    layer, neuron, eps = 1, 3, 1e-2  # Llama normalises in float32
    squares = []
    for row in range(2):
        one = {key: value[row : row + 1] for key, value in batch.items()}
        losses = []
        for gate in (1 + eps, 1 - eps):
            site = adapter.sites[layer].ffn_output

            def scaled(module: Any, args: Any, gate: float = gate) -> Any:
                x = args[0].clone()
                x[..., neuron] *= gate
                return (x,)

            handle = site.register_forward_pre_hook(scaled)
            with torch.no_grad():
                losses.append(float(row_loss(model(**one), one)))
            handle.remove()
        squares.append(((losses[0] - losses[1]) / (2 * eps)) ** 2)
    assert float(score[layer, neuron]) == pytest.approx(np.mean(squares), rel=5e-3)

    with torch.no_grad():
        before = model(**batch).last_hidden_state
    sort_neurons(adapter, score)
    with torch.no_grad():
        after = model(**batch).last_hidden_state
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    again = neuron_fisher(adapter, [batch], row_loss)
    assert (again.diff(dim=1) <= 1e-9 * again.max()).all(), "the best neurons come first"
