"""Whether ``torch.compile`` helps: dense and compacted encoders, and routed neuron blocks.

    python -m benchmarks.compiled            two layers of MiniLM's shape; prints only

Compiling takes a C++ compiler and minutes. Eager and compiled calls take turns; the first calls,
which compile, are reported beside in seconds of the processor.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from agent_economy.compaction import shrink
from benchmarks.executor_cases import random_plan
from benchmarks.shapes import BLOCK_SIZE, Batch, encoder, inputs
from benchmarks.timing import interleaved, median_ratio, note, spread
from benchmarks.words import parser

BATCHES = (Batch(32, 64), Batch(1, 16))
BUDGET, ROUNDS, DRAWS = 0.25, 15, 6


def main(words: list[str] | None = None) -> None:
    """Print what compiling gains: a line for each batch of the encoder, then for blocks alone."""
    known = parser(__doc__)
    known.add_argument("--layers", type=int, default=2, help="of the encoder")
    layers = known.parse_args(words).layers
    threads = torch.get_num_threads()
    note(f"{threads} thread{'s' if threads > 1 else ''}")
    with torch.no_grad():
        _encoder(layers)
        _blocks(BATCHES[0])


def _encoder(layers: int) -> None:
    adapter = encoder("minilm", num_hidden_layers=layers)
    plan_YN, _ = random_plan(adapter, BATCHES[0].length, BUDGET)
    for name, model in {"dense": adapter.model, "compacted": shrink(adapter, plan_YN)}.items():
        compiled = torch.compile(model.eval())
        for batch in BATCHES:
            given = inputs(adapter, batch)
            seconds = _first(lambda run=compiled, given=given: run(**given))
            apart = float((compiled(**given)[0] - model(**given)[0]).abs().max())
            _compare(
                f"{name}, {batch.name}",
                lambda run=model, given=given: run(**given),
                lambda run=compiled, given=given: run(**given),
                repeat=max(1, 256 // (batch.rows * batch.length)),
                more=f"first call {seconds:.0f} s, difference {apart:.0e}",
            )


def _blocks(batch: Batch) -> None:
    """One FFN whose neuron blocks each serve other tokens in every call."""
    hidden, neurons, tokens = 384, 1536, batch.rows * batch.length
    generator = torch.Generator().manual_seed(0)
    in_FD, bias_F, out_DF, x_TD = (
        torch.randn(*size, generator=generator)
        for size in ((neurons, hidden), (neurons,), (hidden, neurons), (tokens, hidden))
    )

    def served(x_TD: Tensor, token_GX: list[Tensor]) -> Tensor:
        out_TD = torch.zeros_like(x_TD)
        for block, token_X in enumerate(token_GX):
            own = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
            read = torch.addmm(bias_F[own], x_TD.index_select(0, token_X), in_FD[own].t())
            out_TD.index_add_(0, token_X, functional.gelu(read) @ out_DF[:, own].t())
        return out_TD

    draws = [
        [
            (torch.rand(tokens, generator=generator) < BUDGET).nonzero()[:, 0]
            for _ in range(neurons // BLOCK_SIZE)
        ]
        for _ in range(DRAWS)
    ]
    compiled = torch.compile(served, dynamic=True)
    seconds = sum(_first(lambda draw=draw: compiled(x_TD, draw)) for draw in draws)
    eager, fast = itertools.cycle(draws), itertools.cycle(draws)
    _compare(
        f"routed blocks, {batch.name}",
        lambda: served(x_TD, next(eager)),
        lambda: compiled(x_TD, next(fast)),
        more=f"first {DRAWS} calls {seconds:.0f} s",
    )


def _first(run: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes, compiling included."""
    start = time.process_time()
    run()
    return time.process_time() - start


def _compare(
    name: str,
    eager: Callable[[], object],
    compiled: Callable[[], object],
    *,
    repeat: int = 1,
    more: str,
) -> None:
    readings = interleaved(
        {"eager": eager, "compiled": compiled},
        rounds=ROUNDS,
        repeat={"eager": repeat, "compiled": repeat},
        say=name,
    )
    median = {each: spread(times)["median_ms"] for each, times in readings.items()}
    print(
        f"{name}: eager {median['eager']:g} ms, compiled {median['compiled']:g} ms, "
        f"{median_ratio(readings, 'eager', 'compiled'):.2f} times as fast ({more})",
        flush=True,
    )


if __name__ == "__main__":
    main()
