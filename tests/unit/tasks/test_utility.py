"""Utilities against hand-made outputs, and their calibration losses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agent_economy.tasks.utility import EmbeddingFidelity, LabelledScore, NextTokenFidelity


def hidden(*rows: list[list[float]]) -> SimpleNamespace:
    return SimpleNamespace(last_hidden_state=torch.tensor(rows))


def test_embedding_fidelity_is_the_cosine_of_means_without_padding() -> None:
    batch = {"attention_mask": torch.tensor([[1, 1, 0]])}
    dense = hidden([[2.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    scarce = hidden([[1.0, 1.0], [0.0, 0.0], [-9.0, 9.0]])
    fidelity = EmbeddingFidelity()
    reference = fidelity.reference(dense, batch)
    assert fidelity.measure(dense, batch, reference) == pytest.approx(1)
    assert fidelity.measure(scarce, batch, reference) == pytest.approx(2**-0.5)


def test_next_token_fidelity_is_kl_per_real_token() -> None:
    batch = {"attention_mask": torch.tensor([[1, 0]])}
    dense = SimpleNamespace(logits=torch.tensor([[[0.0, 0.0], [5.0, 0.0]]]))
    scarce = SimpleNamespace(logits=torch.tensor([[[1.0, 0.0], [0.0, 9.0]]]))
    fidelity = NextTokenFidelity()
    p = torch.tensor([1.0, 0.0]).softmax(0)
    expected = float((0.5 * (0.5 / p).log()).sum())
    reference = fidelity.reference(dense, batch)
    assert fidelity.measure(scarce, batch, reference) == pytest.approx(expected, rel=1e-5)
    assert fidelity.measure(dense, batch, reference) == 0


def test_next_token_loss_draws_labels_from_the_model() -> None:
    batch = {"attention_mask": torch.ones(1, 4000, dtype=torch.long)}
    logits = torch.tensor([0.0, 2.0, -1.0]).expand(1, 4000, 3)
    output = SimpleNamespace(logits=logits)
    loss = NextTokenFidelity().loss(output, batch, torch.Generator().manual_seed(0))
    p = logits[0, 0].softmax(0)
    entropy = float(-(p * p.log()).sum())
    assert float(loss) / 4000 == pytest.approx(entropy, rel=0.05)


def test_embedding_loss_squared_gradient_is_the_curvature() -> None:
    """Averaged over draws, the squared gradient is the squared norm of the Jacobian."""
    batch = {"attention_mask": torch.ones(1, 1, dtype=torch.long)}
    gate = torch.ones((), requires_grad=True)
    generator = torch.Generator().manual_seed(0)

    def output() -> SimpleNamespace:
        first = torch.tensor([[[3.0, 0.0]]])
        return SimpleNamespace(last_hidden_state=first + gate * torch.tensor([[[0.0, 4.0]]]))

    squares = []
    for _ in range(4000):
        loss = EmbeddingFidelity().loss(output(), batch, generator)
        squares.append(torch.autograd.grad(loss, gate)[0] ** 2)
    # e = (3, 4g)/|.|: its derivative at g = 1 has norm 12/25
    assert float(torch.stack(squares).mean()) == pytest.approx((12 / 25) ** 2, rel=0.1)


def test_labelled_score_uses_the_task_metric() -> None:
    batch = {"labels": torch.tensor([0, 1, 1, 0])}
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    output = SimpleNamespace(logits=logits)
    accuracy = LabelledScore("accuracy", regression=False)
    assert accuracy.measure(output, batch, logits) == pytest.approx(0.75)
    loss = accuracy.loss(output, batch, torch.Generator())
    assert float(loss) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum"))
    )
