"""The benchmark of a step: shares from readings by hand, clocks put back."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.step import PHASES, TARGET, _cpu_clock, _told


def readings(clearing: float) -> dict[str, list[float]]:
    """Three steps of 100 ms; the second one is twice as slow in everything."""
    parts = dict.fromkeys(PHASES, 0.5) | {"clearing": clearing, "mesa": 1.0, "rows": 2.0}
    parts["transformer"] = 100 - sum(parts.values())
    parts["step"] = 100.0
    return {name: [value, 2 * value, value] for name, value in parts.items()}


def test_shares_are_of_the_step() -> None:
    found = _told(readings(clearing=10.0), dense_ms=80.0)
    others = 0.5 * (len(PHASES) - 1) + 1.0 + 2.0
    assert found["outside"] == pytest.approx((others + 10) / 100)
    assert found["outside_without_clearing"] == pytest.approx(others / 100)
    assert found["step_ms"] == 100 and found["transformer_ms"] == pytest.approx(90 - others)
    assert not found["met"] and found["met_without_clearing"]
    assert _told(readings(clearing=100 * TARGET - others), 80.0)["met"]


def test_the_cpu_clock_is_put_back() -> None:
    clock, threads = time.perf_counter, torch.get_num_threads()
    with pytest.raises(KeyError), _cpu_clock():
        start = time.perf_counter()
        time.sleep(0.05)  # sleeping takes no CPU time
        assert time.perf_counter() - start < 0.04
        assert torch.get_num_threads() == 1
        raise KeyError
    assert time.perf_counter is clock and torch.get_num_threads() == threads
