"""What agents take on this machine's clock: the table behind budgets in milliseconds.

    agent-economy bench latency --json      measure and print
    python -m benchmarks.latency            measure and write the result
    python -m benchmarks.latency --quick    two sizes, two rounds; prints only

Agents are timed side by side as in a compacted layer, half of them, and the time divided by their
number. ``agent_economy.costs.latency`` fits the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from agent_economy.costs.latency import LatencyTariff, from_rows
from agent_economy.costs.tariff import LayerShape
from agent_economy.runs.files import write_atomic
from benchmarks.clearing import RESULTS
from benchmarks.timing import interleaved, note, rounded, spread

RESULT = RESULTS / "latency.json"
SHAPES = {
    "minilm": LayerShape(384, 12, 12, 32, 1536, 2, 128, causal=False),
    "mpnet": LayerShape(768, 12, 12, 64, 3072, 2, 128, causal=False),
}
#: (rows, tokens in each)
BATCHES = ((1, 16), (4, 16), (1, 64), (8, 64), (32, 64), (2, 256), (8, 256))
_QUICK = ((1, 8), (2, 16))


def rows(*, quick: bool = False) -> list[dict[str, Any]]:
    """Every reading: what ``agent-economy bench latency`` prints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    note(f"{threads} thread{'s' if threads > 1 else ''}")
    found = []
    for name, shape in SHAPES.items():
        for batch in _QUICK if quick else BATCHES:
            found += _readings(name, shape, batch, quick=quick)
    return found


def _readings(
    name: str, shape: LayerShape, batch: tuple[int, int], *, quick: bool
) -> list[dict[str, Any]]:
    tokens, context = batch[0] * batch[1], batch[1]
    candidates, counts, sizes = _candidates(shape, batch)
    # Short calls are repeated until a reading takes long enough for the clock.
    repeat = {kind: 1 if quick else max(1, 4096 // tokens) for kind in candidates}
    readings = interleaved(
        candidates, rounds=2 if quick else 15, repeat=repeat, say=f"{name}, {batch[0]} x {batch[1]}"
    )
    return [
        {
            "kind": kind,
            "size": sizes[kind],
            "hidden": shape.hidden,
            "tokens": tokens,
            "context": context if kind == "head" else 0,
            "device": "cpu",
            "ms": rounded(float(spread(times)["median_ms"]) / counts[kind]),
            "agents": counts[kind],
            **spread(times),
        }
        for kind, times in readings.items()
    ]


def _candidates(
    shape: LayerShape, batch: tuple[int, int]
) -> tuple[dict[str, Callable[[], object]], dict[str, int], dict[str, int]]:
    """What is timed, of how many agents, and how wide each is."""
    hidden, width = shape.hidden, shape.head_dim
    heads, blocks = max(shape.heads // 2, 1), max(len(shape.block_sizes) // 2, 1)
    x = torch.randn(*batch, hidden)
    query_WD, out_DW = torch.randn(heads * width, hidden), torch.randn(hidden, heads * width)
    keys_WD = torch.randn(2 * heads * width, hidden)
    in_FD = torch.randn(blocks * shape.block_size, hidden)
    out_DF = torch.randn(hidden, blocks * shape.block_size)
    key = torch.randn(batch[0], heads, batch[1], width)
    norm = torch.nn.LayerNorm(hidden).requires_grad_(False)

    def head() -> object:
        query = functional.linear(x, query_WD).unflatten(-1, (heads, width)).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, key)
        return functional.linear(mixed.transpose(1, 2).flatten(2), out_DW)

    def block() -> object:
        return functional.linear(functional.gelu(functional.linear(x, in_FD)), out_DF)

    candidates: dict[str, Callable[[], object]] = {
        "head": head,
        "keys": lambda: functional.linear(x, keys_WD),
        "block": block,
        "rest": lambda: norm(norm(x + x) + x),
    }
    counts = {"head": heads, "keys": heads, "block": blocks, "rest": 1}
    sizes = {"head": width, "keys": width, "block": shape.block_size, "rest": hidden}
    return candidates, counts, sizes


def main(words: list[str] | None = None) -> None:
    """Measure, write the result, print what was fitted."""
    from agent_economy.runs.manifest import environment, now

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two sizes, two rounds; prints only")
    quick = parser.parse_args(words).quick
    about = {"command": "python -m benchmarks.latency", "date": now(), **environment()}
    with torch.no_grad():
        found = rows(quick=quick)
    if not quick:
        result = about | {"threads": torch.get_num_threads(), "rows": found}
        write_atomic(RESULT, json.dumps(result, indent=1) + "\n")
    for name, shape in SHAPES.items():
        fitted = LatencyTariff.fit(from_rows(found), shape)
        for kind, line in fitted.lines.items():
            print(
                f"{name} {kind}: {line.call_ms:.3g} ms a call, {line.token_ms * 1e3:.3g} us a "
                f"token, {line.pair_ms * 1e6:.3g} ns a token and context token"
            )


if __name__ == "__main__":
    main()
