"""Paired bootstrap, verdicts and hypervolume against scipy, loops and hand-made polygons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agent_economy.metrics.frontier import (
    LOST,
    NOT_WORSE,
    WIN,
    Draws,
    Estimate,
    Scored,
    hypervolume,
    mean_difference,
    mean_over_seeds,
    paired_scores,
    verdict,
)
from agent_economy.tasks.scores import score


def graded(n: int, skill: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of 0/1 labels that everybody shares."""
    labels = np.random.default_rng(77).integers(0, 2, n)
    draw = np.random.default_rng(seed)
    return np.where(draw.random(n) < skill, labels, 1 - labels), labels


def family(draws: Draws, skill: float, seeds: range, first: int = 0) -> dict[int, Scored]:
    return {
        seed: draws.score("accuracy", *graded(draws.examples, skill, first + seed))
        for seed in seeds
    }


def test_one_seed_is_scipys_paired_bootstrap_of_means() -> None:
    draws = Draws(400, resamples=4000)
    ours, labels = graded(400, 0.8, 0)
    theirs = np.where(np.random.default_rng(1).random(400) < 0.15, 1 - ours, ours)  # much alike
    found = paired_scores(
        draws, *({0: draws.score("accuracy", side, labels)} for side in (ours, theirs))
    )
    assert found is not None and found.seeds == (0,)
    right = [100.0 * (side == labels) for side in (ours, theirs)]

    def by_scipy(*samples: np.ndarray, **options: bool) -> tuple[float, float]:
        made = stats.bootstrap(
            samples,
            lambda *sides, axis=-1: sides[0].mean(axis) - sides[1].mean(axis),
            n_resamples=4000,
            method="percentile",
            rng=np.random.default_rng(5),
            **options,
        )
        return made.confidence_interval

    assert found.difference.value == pytest.approx((right[0] - right[1]).mean(), abs=1e-12)
    assert found.difference[1:] == pytest.approx(by_scipy(*right, paired=True), abs=0.4)
    # The oracle tells a paired interval from an unpaired one.
    low, high = by_scipy(*right, paired=False)
    assert high - low > 1.3 * (found.difference.high - found.difference.low)


@pytest.mark.parametrize("metric", ["accuracy", "matthews", "pearson_spearman"])
def test_every_draw_is_that_of_a_loop(metric: str) -> None:
    """Resamples written out: the same examples for both methods and all seeds, S - 1 seeds."""
    draws = Draws(40, resamples=60, seed=3)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 40).astype(float)
    if metric == "pearson_spearman":
        labels = np.round(generator.normal(size=40), 1)

    def predictions() -> np.ndarray:
        noisy = labels + generator.normal(size=40)
        return noisy if metric == "pearson_spearman" else (noisy > 0.5).astype(float)

    raw = [{seed: predictions() for seed in range(3)} for _ in range(2)]
    sides = [{s: draws.score(metric, p, labels) for s, p in side.items()} for side in raw]
    found = paired_scores(draws, *sides)
    drawn, relative = [], []
    for weight_X, share_S in zip(draws.weight_RX, draws.share_RS(3), strict=True):
        copies = np.repeat(np.arange(40), weight_X.astype(int))
        chosen = np.repeat(np.arange(3), np.round(2 * share_S).astype(int))
        assert len(copies) == 40 and len(chosen) == 2
        one, two = (
            np.mean([100 * score(metric, side[s][copies], labels[copies]) for s in chosen])
            for side in raw
        )
        drawn.append(one - two)
        relative.append(100 * (one - two) / two if two > 0 else np.nan)
    assert found is not None
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.difference[1:] == pytest.approx((low, high), abs=1e-9)
    assert found.ours.value - found.theirs.value == pytest.approx(found.difference.value)
    low, high = np.nanquantile(relative, [0.025, 0.975])
    assert found.relative[1:] == pytest.approx((low, high), abs=1e-9)


def test_a_method_against_itself_differs_by_nothing() -> None:
    draws = Draws(100)
    same = family(draws, 0.8, range(3))
    found = paired_scores(draws, same, same)
    assert found is not None and found.difference == (0, 0, 0) and found.relative == (0, 0, 0)
    assert found.ours.low < found.ours.value < found.ours.high


def test_only_common_seeds_are_compared() -> None:
    draws = Draws(100)
    ours, theirs = family(draws, 0.9, range(5)), family(draws, 0.6, range(3, 9), 50)
    found = paired_scores(draws, ours, theirs)
    assert found is not None and found.seeds == (3, 4)
    assert found.ours.value == pytest.approx(50 * (ours[3].score + ours[4].score))
    assert paired_scores(draws, ours, family(draws, 0.6, range(7, 9))) is None


def test_intervals_are_those_of_their_seed() -> None:
    one, other = (Draws(100, seed=seed) for seed in (0, 1))

    def compare(draws: Draws) -> Estimate:
        found = paired_scores(draws, family(draws, 0.8, range(3)), family(draws, 0.7, range(3), 9))
        assert found is not None
        return found.difference

    assert compare(one) == compare(Draws(100, seed=0))
    assert compare(one) != compare(other) and compare(one).value == compare(other).value


def test_three_seeds_cover_the_truth_about_as_often_as_said() -> None:
    """Seeds and examples both matter; drawing all S seeds would fall short of S - 1."""
    hits = hits_with_all = 0
    for study in range(200):
        generator = np.random.default_rng([study, 9])
        value_SX = (
            generator.normal(0, 1, (3, 1))
            + generator.normal(0, 3, 60)
            + generator.normal(0, 3, (3, 60))
        )
        draws = Draws(60, resamples=400)
        means_S = value_SX.mean(1)
        drawn_RS = draws.weight_RX @ value_SX.T / 60
        found = mean_over_seeds(draws, means_S, drawn_RS)
        hits += found.low <= 0 <= found.high
        all_RS = generator.multinomial(3, np.full(3, 1 / 3), 400) / 3
        low, high = np.quantile((all_RS * drawn_RS).sum(1), [0.025, 0.975])
        hits_with_all += bool(low <= 0 <= high)
    assert hits_with_all < hits
    assert 0.88 <= hits / 200 <= 0.995


def test_one_example_of_one_seed_has_no_interval() -> None:
    draws = Draws(1)
    found = paired_scores(
        draws, {0: draws.score("accuracy", [1], [1])}, {0: draws.score("accuracy", [0], [1])}
    )
    assert found is not None and found.difference.value == 100
    assert np.isnan(found.difference[1:]).all()
    assert np.isnan(found.relative.value)  # of nothing
    assert verdict(found.difference, 1.0) == LOST


@pytest.mark.parametrize(
    ("low", "margin", "word"),
    [
        *((0.01, 1.0, WIN), (0.0, 1.0, NOT_WORSE), (-0.99, 1.0, NOT_WORSE), (-1.0, 1.0, LOST)),
        *((-2.9, 3.0, NOT_WORSE), (-3.0, 3.0, LOST), (np.nan, 3.0, LOST)),
    ],
)
def test_verdicts_depend_on_the_lower_bound_alone(low: float, margin: float, word: str) -> None:
    assert verdict(Estimate(5.0, low, 9.0), margin) == word


def test_hypervolume_of_hand_made_polygons() -> None:
    assert hypervolume([0.5], np.array([0.8])) == pytest.approx(0.5 * 0.8)
    # Two steps; the third point is dominated, the fourth is worth nothing, the last is dense.
    flops, scores = [0.25, 0.6, 0.7, 0.1, 1.0], np.array([0.5, 0.9, 0.6, -0.3, 1.0])
    assert hypervolume(flops, scores) == pytest.approx(0.35 * 0.5 + 0.4 * 0.9)
    assert hypervolume([1.0, 1.3], np.array([0.9, 2.0])) == 0
    assert hypervolume([0.0], np.array([1.0])) == 1
    for wrong in ([], [-0.1], [np.nan]):
        with pytest.raises(ValueError, match="shares of FLOPs"):
            hypervolume(wrong, np.zeros(len(wrong)))


def test_hypervolume_is_the_share_of_darts_that_are_dominated() -> None:
    generator = np.random.default_rng(4)
    for count in (1, 3, 8):
        flops, score_RP = generator.random(count), generator.random((5, count))
        darts = generator.random((200_000, 2))
        for found, scores in zip(hypervolume(flops, score_RP), score_RP, strict=True):
            hit = ((darts[:, :1] >= flops) & (darts[:, 1:] <= scores)).any(1).mean()
            assert found == pytest.approx(hit, abs=0.006)


def test_mean_differences_skip_what_either_lacks() -> None:
    draws = Draws(30, resamples=50)
    generator = np.random.default_rng(6)
    ours, theirs = generator.normal(1, 1, (2, 3, 30))
    ours[0, :5] = np.nan
    theirs[2, 7] = np.nan
    mine, other, difference = mean_difference(draws, ours, theirs)
    known = np.isfinite(ours - theirs)
    assert difference.value == pytest.approx((ours - theirs)[known].mean())
    assert mine.value - other.value == pytest.approx(difference.value)
    drawn = []
    for weight_X, share_S in zip(draws.weight_RX, draws.share_RS(3), strict=True):
        weight_SX = np.outer(share_S, weight_X) * known
        drawn.append((weight_SX * np.nan_to_num(ours - theirs)).sum() / weight_SX.sum())
    assert difference[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-12)
    nothing = np.full((3, 30), np.nan)
    assert np.isnan(mean_difference(draws, nothing, theirs)).all()
