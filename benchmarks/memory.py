"""Peak memory of a clearing: the high-water mark of a process that has done nothing else.

Torch's and NumPy's allocators are both at work, so neither's own statistics tell the whole. The
resident set of a fresh process does: its high-water mark after a cold and a warm clearing, less the
mark before, when the market was already in memory. Children are forked from a server that has
imported torch and no more, one for each case.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.markets import clearer, mechanisms, order

Case = tuple[str, int, int]


def peaks_mib(cases: Iterable[Case]) -> list[float | None]:
    """Extra MiB at the peak of clearing ``(name/scope, rows, tokens)``; None where unknown."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return [None for _ in cases]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return list(pool.map(_peak_mib, cases))


def _peak_mib(case: Case) -> float:
    name, rows, length = case
    torch.set_num_threads(1)
    mechanism = mechanisms()[name]
    clearer(mechanism, order(1, 8, 1), times=2)()  # imports, look-up tables, first-time buffers
    job = order(rows, length)
    before = _high_water_mib()
    clearer(mechanism, job, times=2)()
    return round(_high_water_mib() - before, 2)


def _high_water_mib() -> float:
    """Largest resident set of this process so far."""
    import resource  # not on Windows, which has no fork server either

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
