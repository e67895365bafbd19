"""How long a scored model takes: an executor against the dense model, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agent_economy.compaction.adapter import whole_model
from agent_economy.errors import EconomyError
from agent_economy.training.batches import Rows, in_order
from agent_economy.training.evaluate import BATCH_SIZE

if TYPE_CHECKING:
    from agent_economy.economy import Economy

ROUNDS, TIMED = 7, 4
"""Interleaved rounds, and batches of a round, of a latency reading."""

Run = Callable[[dict[str, Any]], Any]


class Runner:
    """An executor under an economy's market, ready to be timed.

    Args:
        run: a forward.
        settle: runs a batch until nothing is left to be found out about such batches.
        compiled: whether ``torch.compile`` made it, so that it is compared with its like.
    """

    def __init__(self, run: Run, settle: Run | None = None, *, compiled: bool = False) -> None:
        self.run, self._settle, self.compiled = run, settle, compiled

    def settle(self, batch: dict[str, Any]) -> None:
        """See the class."""
        if self._settle is not None:
            self._settle(batch)


def compiled_runner(model: Any) -> Runner:
    """A model as ``torch.compile`` makes it, for batches of any size."""
    fast: Any = torch.compile(model, dynamic=True)

    def settle(batch: dict[str, Any]) -> Any:
        try:
            return fast(**batch)
        except RuntimeError as error:  # dynamo's own errors, a missing C++ compiler among them
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EconomyError(
                f"torch.compile failed here ({first}); leave --compile out"
            ) from error

    return Runner(lambda batch: fast(**batch), settle, compiled=True)


def runner(economy: Economy, name: str, *, compiled: bool = False) -> Runner:
    """What runs a batch by an executor.

    Raises:
        EconomyError: compacted, where the allocation is not static.
    """
    if name == "compacted":
        from agent_economy.compaction import shrink

        plan_YN, market = economy.market.plan_YN, economy.market
        if economy.adapter.present is not None and market.budget_fraction == 1:
            model: Any = economy.model  # compacted already, and nobody trades in it
            return compiled_runner(model) if compiled else Runner(lambda batch: model(**batch))
        if plan_YN is None:
            raise EconomyError(
                "this model's allocation is not static, so it cannot run compacted; pass "
                "--executor routed, or compact it with `agent-economy compact --calibrate`"
            )
        small = shrink(economy.adapter, plan_YN, first_only=economy.market.reading.pooled).eval()
        return compiled_runner(small) if compiled else Runner(lambda batch: small(**batch))
    if name == "routed":
        from agent_economy.executors.routed import RoutedExecutor

        routed = RoutedExecutor(economy.adapter, masked=economy.executor)
        return Runner(
            lambda batch: routed.run(batch, economy.market)[0],
            lambda batch: routed.settle(batch, economy.market),
        )
    return Runner(lambda batch: economy(**batch))


@torch.no_grad()
def latency(
    economy: Economy, fast: Runner, rows: Rows, *, batch_size: int = BATCH_SIZE
) -> tuple[float, float]:
    """Median milliseconds per example, and the median over rounds of its ratio to dense.

    Batches of rows of about equal length, spread over all lengths; dense and executor take turns,
    after one round that is not counted and whatever an executor needs to settle.

    Args:
        economy: whose whole model, with all agents, is what the executor is compared with.
        fast: what is timed.
        rows: what batches are made of.
        batch_size: rows of a batch; what an executor saves depends on it.
    """
    batches = in_order(rows.lengths_B, batch_size)
    places = np.linspace(0, len(batches) - 1, min(TIMED, len(batches))).round().astype(int)
    device = next(economy.model.parameters()).device
    taken = [rows.batch(batches[place], device)[0] for place in places]
    count = sum(len(batch["input_ids"]) for batch in taken)
    own, ratios = [], []
    # A compacted model is compared with its whole architecture, whose weights do not matter here.
    dense: Any = economy.model
    if economy.adapter.present is not None:
        dense = whole_model(economy.model).eval()
        dense.to(device)
    other = compiled_runner(dense) if fast.compiled else Runner(lambda batch: dense(**batch))
    with economy.trying():
        for batch in taken:
            fast.settle(batch)
            other.settle(batch)
        for _ in range(ROUNDS + 1):
            runs = (fast.run, other.run)
            times = [_seconds(run, taken, device) for run in runs]
            own.append(times[0] / count * 1e3)
            ratios.append(times[0] / times[1])
    return statistics.median(own[1:]), statistics.median(ratios[1:])


def _seconds(run: Run, batches: list[dict[str, Any]], device: torch.device) -> float:
    start = time.perf_counter()
    for batch in batches:
        run(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
