"""Scores over whole sets of examples, against the library's own and a bootstrap done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agent_economy.tasks.scores import score as library_score
from analysis.examples import Scored, loss_gain, score
from analysis.intervals import Interval
from analysis.readings import BEST, best_masks, readings
from analysis.verdict import judge

METRICS = {
    "accuracy": "accuracy",
    "Matthews correlation": "matthews",
    "mean of Pearson and Spearman": "pearson_spearman",
}


def interval(unit: str, frame: pd.DataFrame) -> Interval:
    return Scored(unit, frame).interval


def gain(unit: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Interval:
    return Scored(unit, ours).gain(Scored(unit, theirs))


def outcomes(unit: str, n: int = 60, seed: int = 0, skill: float = 0.5) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    truth = np.random.default_rng(77)  # the examples are the same for everybody
    if unit == "mean of Pearson and Spearman":
        label = truth.integers(0, 6, n).astype(float)  # ties
        prediction = np.round(skill * label + draw.normal(size=n), 1)
    else:
        label = truth.integers(0, 2, n).astype(float)
        prediction = np.where(draw.random(n) < skill, label, draw.integers(0, 2, n))
    return pd.DataFrame(
        {
            "seed": 0,
            "example": range(n),
            "loss": draw.random(n) * 9,
            "prediction": prediction,
            "label": label,
            "tokens": truth.integers(1, 9, n).astype(float),
        }
    )


@pytest.mark.parametrize(("unit", "metric"), METRICS.items())
def test_resampled_scores_are_those_of_the_resample(unit: str, metric: str) -> None:
    """A weight of w counts as w copies of the example, ties and all."""
    frame = outcomes(unit)
    weight_RX = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), 25).astype(float)
    found = score(unit, frame, weight_RX)
    for weight_X, value in zip(weight_RX, found, strict=True):
        copies = frame.loc[np.repeat(frame.index, weight_X.astype(int))]
        expected = library_score(metric, copies["prediction"], copies["label"])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("unit", ["Matthews correlation", "mean of Pearson and Spearman"])
def test_a_constant_prediction_scores_nothing(unit: str) -> None:
    assert interval(unit, outcomes(unit).assign(prediction=0.1))[:3] == (0, 0, 0)


def test_perplexity_is_of_sums() -> None:
    frame = outcomes("perplexity")
    found = interval("perplexity", frame)
    assert found.mean == pytest.approx(np.exp(frame["loss"].sum() / frame["tokens"].sum()))
    assert found.low < found.mean < found.high and found.n == 60


def test_an_interval_covers_as_often_as_it_says() -> None:
    """Accuracy of 0.75 (half known, half guessed), 150 times 60 examples."""
    hits = 0
    for seed in range(150):
        found = interval("accuracy", outcomes("accuracy", seed=seed))
        hits += found.low <= 0.75 <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_gains_are_paired_by_example() -> None:
    unit = "accuracy"
    theirs = outcomes(unit)
    ours = theirs.copy()
    wrong = np.flatnonzero(ours["prediction"] != ours["label"])[:3]
    ours.loc[wrong, "prediction"] = ours.loc[wrong, "label"]  # the same, and three more right
    found = gain(unit, ours, theirs.sample(frac=1, random_state=0))
    assert found.mean == pytest.approx(3 / 60)
    assert found.low >= 0  # unpaired noise would reach far below
    assert gain(unit, ours.iloc[:10], theirs).n == 10
    assert gain(unit, ours.assign(seed=1), theirs).n == 0


def test_a_lower_perplexity_is_a_gain_in_nats_a_token() -> None:
    theirs = outcomes("perplexity")
    ours = theirs.assign(loss=theirs["loss"] - theirs["tokens"] * 0.25)
    found = gain("perplexity", ours, theirs)
    assert found[:3] == (pytest.approx(0.25),) * 3


def test_less_loss_is_counted_a_token() -> None:
    theirs = outcomes("perplexity")
    ours = theirs.assign(loss=theirs["loss"] * 0.5)
    found = loss_gain(ours.sample(frac=1, random_state=1), theirs)
    assert found.mean == pytest.approx(theirs["loss"].sum() / 2 / theirs["tokens"].sum())
    assert 0 < found.low < found.mean < found.high
    assert loss_gain(theirs, theirs)[:3] == (0, 0, 0)


CELL = {"scope": "sequence", "budget_fraction": 0.5, "seed": 0}


def study() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A market, and two masks of which the one that scores worse was chosen beforehand."""
    unit = "accuracy"
    skills = {
        ("posted", "taylor"): 0.6,
        ("posted", "random"): 0.1,
        ("static_mask", "good"): 0.9,
        ("static_mask", "chosen"): 0.3,
    }
    examples, metrics = [], []
    for (mechanism, policy), skill in skills.items():
        cell = {"mechanism": mechanism, "policy": policy, **CELL}
        cell |= {"scope": ""} if mechanism == "static_mask" else {}
        for seed in (0, 1):
            cell |= {"seed": seed}
            frame = outcomes(unit, seed=int(100 * skill) + seed, skill=skill)
            examples.append(frame.drop(columns="seed").assign(**cell))
            rows = {"utility_of_batch": 0.5, "flops_fraction": 0.4 + skill / 10}
            if mechanism == "static_mask":
                rows["selection_loss"] = 1.0 if policy == "chosen" else 2.0
            metrics += [
                cell | {"step": 0, "metric": k, "value": v, "unit": unit} for k, v in rows.items()
            ]
    return pd.DataFrame(metrics), pd.concat(examples, ignore_index=True)


def test_the_best_mask_is_chosen_without_the_measured_examples() -> None:
    metrics, examples = study()
    assert set(best_masks(metrics)["policy"]) == {"chosen"}
    found = readings(metrics, examples)
    table = found.table().set_index(["mechanism", "policy"])
    assert table.loc[("static_mask", BEST), "mean"] == table.loc[("static_mask", "chosen"), "mean"]
    assert table.loc[("static_mask", "good"), "mean"] > table.loc[("static_mask", BEST), "mean"]
    assert (table["n"] == 120).all()  # two seeds of sixty examples


def test_the_verdict_compares_with_the_best_mask() -> None:
    metrics, examples = study()
    verdict = judge(metrics, readings(metrics, examples))
    compared = verdict.compared.set_index("rival")
    assert set(compared.index) == {"random bids", "best static mask"}
    assert set(compared["policy"]) == {"taylor"}  # masks and random bids are rivals, not ours
    ours = examples.query("policy == 'taylor'").reset_index(drop=True)
    theirs = examples.query("policy == 'chosen'").reset_index(drop=True)
    right = [(each["prediction"] == each["label"]).mean() for each in (ours, theirs)]
    row = compared.loc["best static mask"]
    assert row["gain"] == pytest.approx(right[0] - right[1])
    assert row["rival_spent"] == pytest.approx(0.43)
    assert [(r["rival"], r["better"] + r["undecided"] + r["worse"]) for r in verdict.score] == [
        ("random bids", 1),
        ("best static mask", 1),
    ]
