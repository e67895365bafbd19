"""What a step of a simulation costs outside the transformer.

A Mesa model's step as the laboratory runs it: MiniLM, 4 texts of up to 32 tokens (and 8 of 128),
half the compute on offer; one step is a forward with its market, the settlement of wallets, Mesa's
own step and the rows that a study records. Every round times all candidates once, in turn.

    python -m benchmarks.step          # wall clock, as many threads as torch takes: a quiet machine
    python -m benchmarks.step --cpu    # CPU time of one thread: a busy one
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from typing import Any

import torch

from agent_economy import Economy
from agent_economy.config import MechanismConfig, Named, WalletConfig
from agent_economy.metrics.inequality import gini
from agent_economy.runs.recording import Recorder
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.text import sample_texts
from agent_economy.tasks.utility import EmbeddingFidelity
from agent_economy.zoo import load
from benchmarks.clearing import RESULTS
from benchmarks.row import Row
from benchmarks.timing import interleaved, rounded
from benchmarks.words import parser
from simulations.model import EconomyModel

TARGET = 0.10
"""The share of a step that may be spent outside the transformer."""
SHAPES = {(4, 32): 40, (8, 128): 12}
"""Rows and tokens a row of a batch, and rounds."""
MARKETS = {
    "uniform_price": MechanismConfig(),
    "uniform_price, forward": MechanismConfig(timing="forward"),
    "greedy_density": MechanismConfig(name="greedy_density"),
    "posted_price": MechanismConfig(name="posted_price"),
    "uniform": MechanismConfig(name="uniform"),
}
PHASES = ("features", "bids", "clearing", "ledger", "recording")


class Bench:
    """One economy under way, its clock stopped at every border."""

    def __init__(self, model: Any, economy: Economy, batch: dict[str, Any], dense: Any) -> None:
        self.economy, self.dense = economy, dense
        self.model = EconomyModel(economy, repeat(batch), 0)
        self.record = Recorder()
        self.readings: dict[str, list[float]] = defaultdict(list)
        economy.register_forward_pre_hook(lambda *_: self._start())
        economy.register_forward_hook(lambda *_: self._stop())

    def _start(self) -> None:
        self._from = time.perf_counter()

    def _stop(self) -> None:
        self._inside = time.perf_counter() - self._from

    def step(self) -> None:
        """Run one step, write its rows, and keep what each phase took, in milliseconds."""
        start = time.perf_counter()
        self.model.step()
        stepped = time.perf_counter()
        self._write()
        end = time.perf_counter()
        phases = self.model.receipt.timings_ms
        market = sum(phases.values())
        found = {phase: phases.get(phase, 0.0) for phase in PHASES}
        found["mesa"] = (stepped - start - self._inside) * 1e3
        found["rows"] = (end - stepped) * 1e3
        found["transformer"] = self._inside * 1e3 - market
        found["step"] = (end - start) * 1e3
        for name, milliseconds in found.items():
            self.readings[name].append(milliseconds)

    def _write(self) -> None:
        """What ``endowments`` records, the loss apart: that is a measurement of the transformer."""
        receipt, population = self.model.receipt, self.economy.population
        self.record.add(
            step=self.model.steps,
            row=range(len(receipt.mask_BL)),
            gini_wealth=float(gini(self.economy.ledger.wallet_A)),
            gini_served=float(gini(population.served_A)),
            price_per_gflop=float(receipt.price_YBL[:, receipt.mask_BL].mean()),
            payment_credits=float(population.payment_A.sum()),
            wallet_credits=float(self.economy.ledger.wallet_A.sum()),
            spend_fraction=receipt.flops_fraction,
        )
        if self.record.full:
            self.record.take()


def rows(*, shapes: dict[tuple[int, int], int] = SHAPES) -> list[Row]:
    """Every market at every shape: medians of a step and its parts, shares of the step."""
    loaded = load("minilm")
    texts = sample_texts("python-docs", 40, 0)
    encoded = encode(loaded.tokenizer, texts, max(length for _, length in shapes), 512)
    table = []
    for (batch_rows, length), rounds in shapes.items():
        batch = {key: value[:batch_rows, :length] for key, value in encoded.items()}
        calibration = {key: value[-16:, :length] for key, value in encoded.items()}

        @torch.no_grad()
        def dense(batch: dict[str, Any] = batch) -> Any:
            return loaded.model(**batch)

        benches = _benches(loaded.model, batch, calibration, dense)
        candidates: dict[str, Callable[[], object]] = {"dense": dense}
        candidates |= {name: bench.step for name, bench in benches.items()}
        warm_up = 3
        say = f"steps of {batch_rows} x {length} tokens"
        readings = interleaved(candidates, rounds=rounds, warm_up=warm_up, say=say)
        dense_ms = statistics.median(readings["dense"])
        for name, bench in benches.items():
            table.append(
                {"shape": f"{batch_rows} x {length}", "market": name, "rounds": rounds}
                | _told({k: each[warm_up:] for k, each in bench.readings.items()}, dense_ms)
            )
    return table


def _benches(
    model: Any, batch: dict[str, Any], calibration: dict[str, Any], dense: Any
) -> dict[str, Bench]:
    wallet = WalletConfig(endowment_credits=300.0, income=Named(name="revenue"))
    found, policies = {}, {}
    for name, mechanism in MARKETS.items():
        economy = Economy.from_model(
            model, budget_fraction=0.5, mechanism=mechanism.model_dump(), wallet=wallet.model_dump()
        )
        if mechanism.timing not in policies:
            economy.calibrate([calibration], EmbeddingFidelity().loss)
            policies[mechanism.timing] = economy.policies[0]
        economy.set_policy(policies[mechanism.timing])
        found[name] = Bench(model, economy, batch, dense)
    return found


def _told(readings: dict[str, list[float]], dense_ms: float) -> Row:
    """Medians in milliseconds; shares are medians over steps."""

    def share(*parts: str) -> float:
        found = zip(*(readings[part] for part in parts), readings["step"], strict=True)
        return round(statistics.median(sum(each[:-1]) / each[-1] for each in found), 4)

    outside = [*PHASES, "mesa", "rows"]
    without = [part for part in outside if part != "clearing"]
    return {
        "step_ms": rounded(statistics.median(readings["step"])),
        "transformer_ms": rounded(statistics.median(readings["transformer"])),
        "dense_ms": rounded(dense_ms),
        "outside": share(*outside),
        "outside_without_clearing": share(*without),
        "met": share(*outside) <= TARGET,
        "met_without_clearing": share(*without) <= TARGET,
        **{f"{part}_ms": rounded(statistics.median(readings[part])) for part in outside},
    }


@contextmanager
def _cpu_clock() -> Iterator[None]:
    """Every clock here and in the market reads the process's CPU time, for what one thread does."""
    clock, threads = time.perf_counter, torch.get_num_threads()
    time.perf_counter = time.process_time
    torch.set_num_threads(1)
    try:
        yield
    finally:
        time.perf_counter = clock
        torch.set_num_threads(threads)


def main(words: list[str] | None = None) -> None:
    """Measure and write ``benchmarks/results/step.json`` (``step-cpu.json``)."""
    from agent_economy.runs.manifest import environment, now

    known = parser(__doc__)
    known.add_argument("--cpu", action="store_true", help="CPU time of one thread")
    cpu = known.parse_args(words).cpu
    with _cpu_clock() if cpu else nullcontext():
        table, threads = rows(), torch.get_num_threads()
    result = {
        "command": "python -m benchmarks.step" + " --cpu" * cpu,
        "date": now(),
        **environment(),
        "threads": threads,
        "clock": "CPU time of one thread" if cpu else "wall",
        "rows": table,
    }
    (RESULTS / f"step{'-cpu' * cpu}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    for row in result["rows"]:
        print(row)


if __name__ == "__main__":
    main()
