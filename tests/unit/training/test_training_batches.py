"""Rows and batches: every row once, little padding, and one step against AdamW's formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from agent_economy.tasks.glue import load_task
from agent_economy.training.batches import encode_rows, in_order, row_limit, shuffled
from agent_economy.training.classifier import load_encoder, with_head
from agent_economy.training.finetune import _step
from agent_economy.training.optimising import decay_groups
from agent_economy.training.schedule import warmth


def padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    return sum(lengths[b].max() * len(b) for b in batches) / lengths.sum() - 1


def test_every_row_once_with_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 90, 1003)
    batches = shuffled(lengths, 16, seed=1)
    assert sorted(np.concatenate(batches)) == list(range(1003)) and len(batches) == 63
    assert sorted(np.concatenate(in_order(lengths, 16))) == list(range(1003))
    plain = np.array_split(np.random.default_rng(1).permutation(1003), 63)
    assert padding(lengths, batches) < 0.1 < padding(lengths, plain)
    again, other = shuffled(lengths, 16, seed=1), shuffled(lengths, 16, seed=2)
    assert all(map(np.array_equal, batches, again)) and not np.array_equal(batches[0], other[0])
    first = [int(lengths[b].max()) for b in batches[:10]]
    assert first != sorted(first)  # not short to long


def test_rows_are_what_the_tokenizer_makes_of_one_example(encoder: str, data: Path) -> None:
    tokenizer, task = load_encoder(encoder).tokenizer, load_task("stsb", "train", data)
    for limit in (24, 9):
        rows = encode_rows(tokenizer, task, limit)
        inputs, labels = rows.batch(np.array([4, 0, 7]))
        for place, row in enumerate((4, 0, 7)):
            one = tokenizer(
                task.sentences1[row], task.sentences2[row], truncation=True, max_length=limit
            )
            real = inputs["attention_mask"][place].bool()
            for name, ids in one.items():
                assert inputs[name][place][real].tolist() == ids
            assert not inputs["input_ids"][place][~real].any()  # [PAD] is 0
        assert labels.tolist() == [4.0, 0.0, 1.0] and labels.dtype == torch.float32


def test_the_default_limit_fits_the_model(encoder: str) -> None:
    tokenizer = load_encoder(encoder).tokenizer
    assert row_limit(tokenizer, 24, True, None) == 24
    assert row_limit(tokenizer, 512, True, None) == 128
    assert row_limit(tokenizer, None, False, 300) == 300


def test_the_head_starts_at_the_mean_label_over_the_same_encoder(encoder: str, data: Path) -> None:
    base, task = load_encoder(encoder).model, load_task("stsb", "train", data)
    model = with_head(base, task)
    assert model.classifier.bias.item() == pytest.approx(task.labels.mean(), rel=1e-6)
    ids = torch.arange(2, 12)[None]
    mine, theirs = model.eval().bert(ids), base(ids)
    assert torch.equal(mine.last_hidden_state, theirs.last_hidden_state)
    assert torch.equal(mine.pooler_output, theirs.pooler_output)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "mpnet"])
def test_every_encoder_takes_a_head(architecture: str, data: Path) -> None:
    from models import tiny_batch, tiny_model

    base, batch = tiny_model(architecture), tiny_batch()
    for task, outputs in (("stsb", 1), ("mnli", 3)):
        model = with_head(base, load_task(task, "train", data)).eval()
        with torch.no_grad():
            assert model(**batch).logits.shape == (3, outputs)
            hidden = model.base_model(**batch).last_hidden_state
            assert torch.equal(hidden, base(**batch).last_hidden_state)


def test_steps_are_adamw_on_clipped_gradients(encoder: str, data: Path) -> None:
    """Two steps by the formula, in float64; the first gradient is large and the second small."""
    base, task = load_encoder(encoder), load_task("stsb", "train", data)
    inputs, labels = encode_rows(base.tokenizer, task, 24).batch(np.arange(6))
    model, rate, norms = with_head(base.model, task).eval(), 1e-3, []
    optimiser = torch.optim.AdamW(decay_groups(model), lr=rate)
    w = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    m, v = ({name: torch.zeros_like(p) for name, p in w.items()} for _ in range(2))
    for step, target in enumerate((labels + 500, labels), start=1):
        loss = F.mse_loss(model(**inputs).logits.squeeze(-1), target)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(float(torch.stack([g.double().pow(2).sum() for g in gradients]).sum().sqrt()))
        for name, raw in zip(w, gradients, strict=True):
            g = raw.double() * min(1, 1 / norms[-1])
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            move = m[name] / (1 - 0.9**step) / ((v[name] / (1 - 0.999**step)).sqrt() + 1e-8)
            decay = 0.01 * w[name] if raw.ndim > 1 else 0
            w[name] = w[name] - rate * (decay + move)
        assert _step(model, optimiser, inputs, target) == pytest.approx(loss.item(), rel=1e-5)
    assert norms[0] > 10 and norms[1] < 1
    for name, after in model.named_parameters():
        solid = v[name] > 1e-12  # elsewhere float32's rounding decides the sign
        assert torch.allclose(after.detach().double()[solid], w[name][solid], atol=2e-5)
        assert "query" in name or "key" in name or solid.any()


def test_the_rate_warms_up_and_decays() -> None:
    rates = np.array([warmth(step, 200) for step in range(200)])
    assert rates.argmax() == 19 and rates.max() == 1 and rates.min() > 0
    assert np.allclose(np.diff(rates[:20]), 1 / 20) and np.allclose(np.diff(rates[19:]), -1 / 181)
    assert warmth(0, 1) == 1
