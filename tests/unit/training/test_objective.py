"""Losses against hand-made numbers, schedules at their ends, blocks of sorted neurons."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from models import BLOCK_SIZE, tiny_batch, tiny_model

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
