"""Utilities against hand-made outputs, and their calibration losses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agent_economy.tasks.utility import (
    EmbeddingFidelity,
    LabelledScore,
    NextTokenFidelity,
    Perplexity,
)


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


# --- losses of rows -----------------------------------------------------------------------------


def test_embedding_row_losses_average_to_one_minus_the_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])}
    dense, scarce = (
        SimpleNamespace(last_hidden_state=torch.randn(3, 3, 5, generator=generator))
        for _ in range(2)
    )
    fidelity = EmbeddingFidelity()
    reference = fidelity.reference(dense, batch)
    loss_B = fidelity.row_loss(scarce, batch, reference)
    assert 1 - float(loss_B.mean()) == pytest.approx(fidelity.measure(scarce, batch, reference))
    for row in range(3):
        means = [
            o.last_hidden_state[row][batch["attention_mask"][row] > 0].mean(0)
            for o in (dense, scarce)
        ]
        assert float(loss_B[row]) == pytest.approx(1 - float(torch.cosine_similarity(*means, 0)))
    assert fidelity.row_loss(dense, batch, reference).tolist() == [0, 0, 0]


def test_next_token_row_losses_weighted_by_tokens_are_the_kl() -> None:
    generator = torch.Generator().manual_seed(0)
    mask_BL = torch.tensor([[1, 1, 0], [1, 1, 1]])
    batch = {"attention_mask": mask_BL}
    dense, scarce = (
        SimpleNamespace(logits=torch.randn(2, 3, 7, generator=generator)) for _ in range(2)
    )
    fidelity = NextTokenFidelity()
    reference = fidelity.reference(dense, batch)
    loss_B = fidelity.row_loss(scarce, batch, reference)
    whole = float((loss_B * mask_BL.sum(1)).sum() / mask_BL.sum())
    assert whole == pytest.approx(fidelity.measure(scarce, batch, reference), rel=1e-5)
    expected = torch.nn.functional.kl_div(
        scarce.logits[0, :2].log_softmax(-1),
        dense.logits[0, :2].log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    assert float(loss_B[0]) == pytest.approx(float(expected), rel=1e-5)
    assert fidelity.row_loss(dense, batch, reference).tolist() == [0, 0]


def test_labelled_row_losses_add_up_to_the_loss_and_agree_with_the_score() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 2, generator=generator)
    batch = {"labels": torch.randint(0, 2, (50,), generator=generator)}
    output, accuracy = SimpleNamespace(logits=logits), LabelledScore("accuracy", regression=False)
    loss_B = accuracy.row_loss(output, batch, logits)
    assert float(loss_B.sum()) == pytest.approx(float(accuracy.loss(output, batch, generator)))
    right = loss_B < torch.tensor(2.0).log()  # of two classes, the likelier one is the guess
    assert float(right.double().mean()) == pytest.approx(accuracy.measure(output, batch, logits))
    line = LabelledScore("pearson_spearman", regression=True)
    batch = {"labels": torch.tensor([1.0, 3.0, 5.0])}
    output = SimpleNamespace(logits=torch.tensor([[1.5], [3.0], [2.0]]))
    assert line.row_loss(output, batch, output.logits).tolist() == [0.25, 0.0, 9.0]
    assert float(line.loss(output, batch, generator)) == 9.25


# --- perplexity and examples --------------------------------------------------------------------


def test_perplexity_is_of_the_next_real_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    ids = torch.randint(7, (2, 5), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}
    output, utility = SimpleNamespace(logits=logits), Perplexity()
    rows = [
        torch.nn.functional.cross_entropy(logits[0, :4], ids[0, 1:], reduction="sum"),
        torch.nn.functional.cross_entropy(logits[1, :2], ids[1, 1:3], reduction="sum"),
    ]
    reference = utility.reference(output, batch)
    examples = utility.examples(output, batch, reference)
    assert examples.loss_B.tolist() == pytest.approx([float(row) for row in rows], rel=1e-6)
    assert examples.tokens_B.tolist() == [4, 2]
    expected = float((sum(rows) / 6).exp())
    assert utility.measure(output, batch, reference) == pytest.approx(expected, rel=1e-6)
    per_token = utility.row_loss(output, batch, reference)
    assert per_token.tolist() == pytest.approx([float(rows[0]) / 4, float(rows[1]) / 2], rel=1e-6)
    loss = utility.loss(output, batch, torch.Generator())
    assert float(loss) == pytest.approx(float(sum(rows)), rel=1e-6)


def test_only_scores_of_whole_sets_keep_examples() -> None:
    batch = {"labels": torch.tensor([0.0, 3.0]), "attention_mask": torch.ones(2, 1)}
    output = SimpleNamespace(logits=torch.tensor([[1.0], [2.5]]))
    examples = LabelledScore("pearson_spearman", regression=True).examples(output, batch, output)
    assert examples.prediction_B.tolist() == [1.0, 2.5]
    assert examples.label_B.tolist() == [0.0, 3.0]
    assert examples.loss_B.tolist() == [1.0, 0.25]
    assert NextTokenFidelity().examples(output, batch, output.logits) is None
    assert EmbeddingFidelity().examples(output, batch, output.logits) is None
