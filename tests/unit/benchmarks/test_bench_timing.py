"""Interleaving, spreads and memory: what every number of the benchmarks rests on."""

from __future__ import annotations

import sys

import pytest

from benchmarks.memory import peaks_mib
from benchmarks.row import row
from benchmarks.timing import interleaved, median_ratio, spread


def test_every_round_runs_every_candidate_in_turn() -> None:
    calls: list[str] = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    readings = interleaved(
        candidates, rounds=5, warm_up=1, repeat={"a": 2}, every={"c": 4}, say=None
    )
    rounds = ["aabc", "aab", "aab", "aab", "aabc"]  # c in the first round and the fifth
    assert "".join(calls) == "abc" + "".join(rounds)
    assert {name: len(times) for name, times in readings.items()} == {"a": 5, "b": 5, "c": 2}


def test_a_reading_is_the_mean_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.030])  # three calls in 30 milliseconds
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(clock))
    readings = interleaved({"nap": lambda: None}, rounds=1, warm_up=0, repeat={"nap": 3})
    assert readings == {"nap": [pytest.approx(10.0)]}


def test_ratios_are_taken_within_a_round() -> None:
    # The machine slowed down tenfold in the third round: the ratio of medians would be 3.
    readings = {"one": [2.0, 4.0, 60.0], "base": [1.0, 2.0, 30.0]}
    assert median_ratio(readings, "one", "base") == 2.0


def test_a_spread_is_median_and_quartiles() -> None:
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == {
        "median_ms": 3.0,
        "low_ms": 2.0,
        "high_ms": 4.0,
        "readings": 5,
    }


def test_rows_have_the_same_columns_whatever_they_say() -> None:
    full = row("solver", "HiGHS", 1000, [2.0], ratio=3.14159, to="ours", difference=-1.234e-5)
    bare = row("scale", "vcg/token", 1000, [2.0], peak_mib=1.5)
    assert list(full) == list(bare)
    assert full["ns_per_bid"] == 2000.0
    assert full["ratio"] == 3.142 and full["difference"] == -1.2e-5
    assert bare["ratio"] is None and bare["peak_mib"] == 1.5


@pytest.mark.skipif(sys.platform == "win32", reason="no fork server")
def test_peak_memory_grows_with_the_market() -> None:
    small, large = peaks_mib(
        [("uniform_price/sequence", 1, 70), ("uniform_price/sequence", 4, 434)]
    )
    assert small is not None and large is not None
    # 250,000 bids: a sort needs keys and positions at least, 12 bytes a bid; and no gigabyte.
    assert 12 * 249_984 / 2**20 < large < 200
    assert small < large / 4
