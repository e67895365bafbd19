"""General solvers on the same markets: HiGHS for the linear program, CLARABEL for Fisher.

The programs are written out here again as matrices and know nothing of how a mechanism finds its
answer. What is timed is the solver alone, its matrices built beforehand; a clearing's time is all
of it. A size is tried while the last one took less than a tenth of the limit.

- Linear program (HiGHS through scipy): ``max sum bid x`` with ``sum w x + sum S y <= supply``,
  ``x <= y`` of its unit, all in [0, 1]; one program a row. Compared with the exact optimum by
  sorting, and with the hard clearing, which rounds down what the program splits.
- Eisenberg-Gale (CLARABEL through cvxpy): ``max sum_n m_n log(sum_t v_nt x_nt)`` with
  ``sum w x <= supply less fees of open units``; which units open is the mechanism's own rule.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

from agent_economy.mechanisms.fisher_market import FisherMarket
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.openings import by_total_bid
from agent_economy.mechanisms.optimum import optimum
from agent_economy.mechanisms.uniform_price import UniformPrice
from benchmarks.markets import SIZES, Order, clearer, order
from benchmarks.row import Row, row
from benchmarks.timing import interleaved, note

LIMIT_S = 60.0
#: what takes less is solved three times
_QUICK_S = 5.0
HIGHS, CVXPY = "HiGHS", "CLARABEL (cvxpy)"
UNIFORM, SORTED = "uniform_price/sequence", "linear program by sorting"
FISHER = "fisher_market/sequence, shares"


class Solved(NamedTuple):
    """Seconds of the solver, and the values to compare; None where it ran out of time."""

    seconds: float
    value: np.ndarray | None


def rows(*, quick: bool = False) -> list[Row]:
    """Solver against mechanism at every size that the solver finishes within the limit."""
    found = list(_compared(_linear, quick=quick))
    if find_spec("cvxpy"):
        found += _compared(_fisher, quick=quick)
    else:
        note("the Fisher market is not compared: pip install 'agent-economy[test]' brings cvxpy")
    return found


def _compared(question: Callable[[Order], list[Row] | None], *, quick: bool) -> Iterator[Row]:
    for size, (many, length) in SIZES.items():
        start = time.perf_counter()
        note(f"{question.__name__[1:]} program of {size:,} bids by a general solver")
        # A row is a program of its own: a tenth of one is enough to try the plumbing.
        answer = question(order(1, 7) if quick else order(many, length))
        yield from answer or []
        if answer is None or quick or 10 * (time.perf_counter() - start) > LIMIT_S:
            break


# --- the linear program --------------------------------------------------------------------------


def _linear(job: Order) -> list[Row] | None:
    times_ms, value = _solved(job, linear_program)
    if value is None:
        return None
    goods = Goods.of(*job, "sequence")
    market = UniformPrice()
    hard, _ = market.clear(*job, {})
    readings = interleaved(
        {UNIFORM: clearer(market, job), SORTED: lambda: optimum(Goods.of(*job, "sequence"))},
        rounds=5,
    )
    answers = {UNIFORM: hard.welfare, SORTED: optimum(goods).welfare_M}
    return [
        row(
            "solver",
            HIGHS,
            job.bids,
            times_ms,
            ratio=float(np.median(times_ms) / np.median(readings[name])),
            to=name,
            difference=_difference(answers[name].double().numpy(), value),
        )
        for name in answers
    ]


def linear_program(job: Order, b: int, limit_s: float) -> Solved:
    """Welfare of row ``b``."""
    goods = Goods.of(*job, "sequence")
    tariff = goods.tariff
    _, agents, length = goods.value_BNL.shape
    units = tariff.setup_flops_U.shape[0]
    value = (goods.value_BNL[b] * goods.pace_BNL[b]).double().numpy().ravel()
    flops = tariff.double_BNL[b].expand(agents, length).numpy().ravel()
    fees = tariff.setup_flops_BU[b].double().numpy()
    linked = tariff.fee_agents * length
    unit = np.arange(linked) // (tariff.group * length)
    opened = coo_array((np.full(linked, -1.0), (np.arange(linked), unit)), (linked, units))
    rest = csr_array((linked, value.size - linked))
    link = hstack([eye_array(linked), rest, opened])
    budget = csr_array(np.concatenate((flops, fees))[None] / FLOPS_PER_GFLOP)
    bound = np.zeros(linked + 1)
    bound[0] = float(job.supply_flops_BL[b].sum()) / FLOPS_PER_GFLOP
    objective = -np.concatenate((value, np.zeros(units)))
    matrix = vstack([budget, link]).tocsr()
    start = time.perf_counter()
    found = linprog(
        objective,
        A_ub=matrix,
        b_ub=bound,
        bounds=(0, 1),
        method="highs",
        options={"time_limit": limit_s},
    )
    seconds = time.perf_counter() - start
    return Solved(seconds, np.array([-found.fun]) if found.success else None)


# --- the Fisher market ---------------------------------------------------------------------------


def _fisher(job: Order) -> list[Row] | None:
    times_ms, value = _solved(job, eisenberg_gale)
    if value is None:
        return None
    market = FisherMarket()
    state = market.initial_state(len(job.active_N), len(job.tariff.setup_flops_U), 0)

    @torch.no_grad()
    def shares() -> torch.Tensor:
        return market.relax(*job, state, temperature=1.0)[0].allocation_BLN

    readings = interleaved({FISHER: shares}, rounds=5)
    utility_BN = (shares().double() * job.bid_BLN.double()).sum(1)
    return [
        row(
            "solver",
            CVXPY,
            job.bids,
            times_ms,
            ratio=float(np.median(times_ms) / np.median(readings[FISHER])),
            to=FISHER,
            difference=_difference(utility_BN.numpy().ravel(), value),
        )
    ]


def eisenberg_gale(job: Order, b: int, limit_s: float) -> Solved:
    """Utilities of row ``b``'s agents, 0 for those whose unit is shut."""
    import cvxpy

    goods = Goods.of(*job, "sequence")
    lines = Lines(goods, by_total_bid(goods))
    value_NL = goods.value_BNL[b].double().numpy()
    gflops_NL = (goods.tariff.double_BNL[b] / FLOPS_PER_GFLOP).expand(value_NL.shape).numpy()
    open_N = lines.may_BNL[b].any(-1).numpy() & (value_NL.sum(1) > 0)
    # In means of value and of cost, as numbers near 1 suit an interior point: the same program.
    value_NL, gflops_NL = value_NL[open_N], gflops_NL[open_N]
    mean_N1, unit = value_NL.mean(1, keepdims=True), gflops_NL.mean()
    share_NL = cvxpy.Variable(value_NL.shape)
    utility_N = cvxpy.sum(cvxpy.multiply(value_NL / mean_N1, share_NL), axis=1)
    spend = cvxpy.sum(cvxpy.multiply(gflops_NL / unit, share_NL))
    program = cvxpy.Problem(
        cvxpy.Maximize((mean_N1[:, 0] / mean_N1.mean()) @ cvxpy.log(utility_N)),
        [
            spend <= float(lines.left[b]) / FLOPS_PER_GFLOP / unit,
            share_NL >= 0,
            share_NL <= 1,
        ],
    )
    try:
        with warnings.catch_warnings(action="ignore"):  # what is inaccurate is not used
            program.solve(solver=cvxpy.CLARABEL, time_limit=limit_s)
    except cvxpy.SolverError:
        return Solved(limit_s, None)
    stats = program.solver_stats
    seconds = float(stats.solve_time) + float(stats.setup_time or 0)
    if program.status != cvxpy.OPTIMAL:
        return Solved(seconds, None)
    utility = np.zeros(len(open_N))
    utility[open_N] = utility_N.value * mean_N1[:, 0]
    return Solved(seconds, utility)


# --- both ----------------------------------------------------------------------------------------


Solver = Callable[[Order, int, float], Solved]


def _solved(job: Order, solve: Solver) -> tuple[list[float], np.ndarray | None]:
    """Milliseconds of one solution, or of three where one is quick; and its values."""
    first = _each_row(job, solve)
    again = 2 if first.seconds < _QUICK_S else 0
    seconds = [first.seconds, *(_each_row(job, solve).seconds for _ in range(again))]
    return [1e3 * each for each in seconds], first.value


def _each_row(job: Order, solve: Solver) -> Solved:
    """Rows are markets of their own: their seconds together, their values one after the other."""
    seconds, values = 0.0, []
    for b in range(job.bid_BLN.shape[0]):
        solved = solve(job, b, max(LIMIT_S - seconds, 1.0))
        seconds += solved.seconds
        if solved.value is None or seconds > LIMIT_S:
            return Solved(seconds, None)
        values.append(solved.value)
    return Solved(seconds, np.concatenate(values))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative difference, signed: below 0 where ours is less."""
    relative = (ours - theirs) / np.where(theirs == 0, 1.0, theirs)
    return float(relative[np.abs(relative).argmax()])
