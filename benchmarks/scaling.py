"""Time per bid and peak memory of every mechanism and scope, from 10^4 to 10^7 bids.

Beside them row-wise ``torch.sort`` of the same tensor, the least that a market by sorting costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.markets import SIZES, clearer, mechanisms, order
from benchmarks.memory import peaks_mib
from benchmarks.row import Row, row
from benchmarks.timing import interleaved, median_ratio, note

SORTS = ("torch.sort, rows of tokens", "torch.sort, rows of agents", "torch.sort, rows of a market")
#: time per bid of the slowest size over that of the fastest
TARGET = 4.0
#: calls to a reading, so that it is much longer than the clock's grain
_REPEAT = {10**4: 20, 10**5: 4}
#: rounds between two readings of sizes that take long
_EVERY = {10**7: 4}
_ROUNDS = 9


class Case(NamedTuple):
    """One thing timed at one size."""

    name: str
    size: int


def rows(*, quick: bool = False) -> list[Row]:
    """Sorts, mechanisms and scopes at every size; interleaved over sizes too."""
    sizes = dict(list(SIZES.items())[: 2 if quick else None])
    cases: dict[str, Case] = {}
    candidates: dict[str, Callable[[], object]] = {}
    bids = {}
    for size, (many, length) in sizes.items():
        job = order(many, length)
        bids[size] = job.bids
        for name, run in (
            _sorts(job.bid_BLN) | {n: clearer(m, job) for n, m in mechanisms().items()}
        ).items():
            cases[f"{name} {size}"] = Case(name, size)
            candidates[f"{name} {size}"] = run
    readings = interleaved(
        candidates,
        rounds=2 if quick else _ROUNDS,
        warm_up=1,
        repeat={} if quick else {key: _REPEAT.get(case.size, 1) for key, case in cases.items()},
        every={key: _EVERY.get(case.size, 1) for key, case in cases.items()},
        say="clearing from 10^4 bids on",
    )
    note("peak memory, a fresh process for each case")
    measured = [key for key, case in cases.items() if case.name not in SORTS]
    peaks = dict(
        zip(
            measured,
            peaks_mib([(cases[key].name, *sizes[cases[key].size]) for key in measured]),
            strict=True,
        )
    )
    return [
        row(
            "scale",
            case.name,
            bids[case.size],
            readings[key],
            ratio=median_ratio(readings, key, f"{SORTS[0]} {case.size}"),
            to=SORTS[0],
            peak_mib=peaks.get(key),
        )
        for key, case in cases.items()
    ]


def _sorts(bid_BLN: torch.Tensor) -> dict[str, Callable[[], object]]:
    rows_BNL = bid_BLN.transpose(1, 2).contiguous()
    return {
        SORTS[0]: lambda: torch.sort(rows_BNL, dim=-1),
        SORTS[1]: lambda: torch.sort(bid_BLN, dim=-1),
        SORTS[2]: lambda: torch.sort(bid_BLN.flatten(1), dim=-1),
    }
