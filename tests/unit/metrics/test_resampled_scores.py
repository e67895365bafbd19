"""Weighted scores against the library's own on resamples written out."""

from __future__ import annotations

import time

import numpy as np
import pytest

from agent_economy.errors import EconomyError
from agent_economy.metrics.resampled import resampled_score
from agent_economy.tasks.scores import score

METRICS = ("accuracy", "matthews", "pearson_spearman", "perplexity")


def outcomes(metric: str, n: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    if metric == "pearson_spearman":
        labels = draw.integers(0, 26, n) / 5  # ties, as in STS-B
        return np.round(labels + draw.normal(size=n), 1), labels
    if metric == "perplexity":
        tokens = draw.integers(1, 30, n)
        return tokens * draw.gamma(9.0, 0.4, n), tokens
    labels = draw.integers(0, 2, n)
    return np.where(draw.random(n) < 0.6, labels, 1 - labels), labels


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_counts_copies(metric: str) -> None:
    predictions, labels = outcomes(metric)
    weight_RX = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), 40).astype(float)
    found_R = resampled_score(metric, predictions, labels, weight_RX)
    for weight_X, found in zip(weight_RX.astype(int), found_R, strict=True):
        copies = np.repeat(np.arange(50), weight_X)
        assert found == pytest.approx(score(metric, predictions[copies], labels[copies]), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_weights_of_one_are_the_plain_score(metric: str) -> None:
    predictions, labels = outcomes(metric, 300)
    (found,) = resampled_score(metric, predictions, labels, np.ones((1, 300)))
    assert found == pytest.approx(score(metric, predictions, labels), abs=1e-12)


@pytest.mark.parametrize("metric", ["matthews", "pearson_spearman"])
@pytest.mark.parametrize("shift", [0.0, 0.1, 1e6])
def test_a_constant_side_scores_nothing(metric: str, shift: float) -> None:
    labels = np.arange(20) % 2 + shift
    weight_RX = np.ones((3, 20))
    weight_RX[1, ::2] = 0  # here the labels are constant too
    weight_RX[2, 1:] = 0
    assert not resampled_score(metric, np.full(20, shift), labels, weight_RX).any()
    found_R = resampled_score(metric, labels, labels, weight_RX)
    assert found_R == pytest.approx([1, 0, 0], abs=1e-9)


def test_perplexity_is_of_tokens_and_its_score_rises_as_it_falls() -> None:
    nats, tokens = np.array([6.0, 2.0]), np.array([2.0, 2.0])
    assert score("perplexity", nats, tokens) == pytest.approx(-np.log(np.exp(8 / 4)))
    assert score("perplexity", nats * 1.01, tokens) < score("perplexity", nats, tokens)
    two_to_one = np.array([[2.0, 1.0]])
    assert resampled_score("perplexity", nats, tokens, two_to_one) == pytest.approx([-14 / 6])


def test_what_counts_nothing_has_no_score() -> None:
    weight_RX = np.array([[0.0, 0.0], [1.0, 0.0]])
    found_R = resampled_score("accuracy", [1, 0], [1, 1], weight_RX)
    assert np.isnan(found_R[0]) and found_R[1] == 1


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(EconomyError, match="did you mean 'accuracy'"):
        resampled_score("accuracies", [1], [1], np.ones((1, 1)))


def test_a_thousand_rank_correlations_take_no_time() -> None:
    predictions, labels = outcomes("pearson_spearman", 1500)
    draw = np.random.default_rng(2)
    weight_RX = draw.multinomial(1500, np.full(1500, 1 / 1500), 1000).astype(float)
    start = time.process_time()
    resampled_score("pearson_spearman", predictions, labels, weight_RX)
    assert time.process_time() - start < 2
