"""Where the economy loses, on a study small enough to work out by hand."""

import pandas as pd
import pytest

from analysis.readings import readings
from analysis.verdict import Verdict
from analysis.verdict import judge as judge_readings


def judge(metrics: pd.DataFrame) -> Verdict:
    return judge_readings(metrics, readings(metrics))


def metrics(values: dict[tuple[str, str], list[float]], unit: str = "score") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "mechanism": mechanism,
                "policy": policy,
                "scope": "token",
                "budget_fraction": 0.5,
                "seed": 0,
                "step": step,
                "metric": "utility",
                "value": value,
                "unit": unit,
            }
            for (mechanism, policy), row in values.items()
            for step, value in enumerate(row)
        ]
    )


STUDY = {
    ("posted", "taylor"): [0.5, 0.6, 0.7],
    ("posted", "random"): [0.4, 0.5, 0.6],
    ("uniform", "constant"): [0.7, 0.8, 0.9],
}


def test_differences_are_paired_by_batch() -> None:
    verdict = judge(metrics(STUDY))
    gains = dict(zip(verdict.compared["rival"], verdict.compared["gain"], strict=True))
    assert gains == {"random bids": pytest.approx(0.1), "no market": pytest.approx(-0.2)}
    # The batches differ by more than the rivals do, and yet the paired interval is sharp.
    (loss,) = verdict.losses.itertuples()
    assert (loss.rival, loss.n, bool(loss.sure), bool(loss.lead)) == ("no market", 3, True, True)
    assert verdict.variants[0]["count"] == verdict.variants[0]["compared"] == 1


def test_a_divergence_is_better_when_lower() -> None:
    (loss,) = judge(metrics(STUDY, unit="KL, nats")).losses.itertuples()
    assert loss.rival == "random bids"


def test_a_tie_is_no_loss() -> None:
    assert judge(metrics({key: [1.0, 1.0] for key in STUDY})).losses.empty


def test_without_rivals_nothing_is_compared() -> None:
    verdict = judge(metrics({("posted", "taylor"): [0.5]}))
    assert verdict.compared.empty
    assert verdict.losses.empty
    assert verdict.variants == []


def test_batches_that_only_one_met_are_not_counted() -> None:
    uneven = STUDY | {("uniform", "constant"): [0.6]}
    compared = judge(metrics(uneven)).compared.set_index("rival")
    assert compared.loc["no market", "n"] == 1
    assert compared.loc["no market", "gain"] == pytest.approx(-0.1)
