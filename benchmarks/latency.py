"""What agents take on this machine's clock: the table behind budgets in milliseconds.

    agent-economy bench latency               measure, print, keep the table in the cache folder
    python -m benchmarks.latency              measure, write benchmarks/results/latency.json (which
                                              is this machine's and not part of the repository)
    python -m benchmarks.latency --model DIR  add any model's layers to the table in the cache
    python -m benchmarks.latency --quick      two sizes, two rounds; prints only

Agents are timed side by side as in a compacted layer, half of them, and the time divided by their
number. ``agent_economy.costs.latency`` fits the table; ``train`` and ``eval`` take it from the
cache folder, for budgets in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from agent_economy.costs.latency import Kind, LatencyTariff
from agent_economy.costs.latency_table import from_rows, read_table, write_table
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.devices import usable_device
from agent_economy.errors import EconomyError
from agent_economy.latencies import default_table
from agent_economy.mechanisms.uniform_price import UniformPrice
from benchmarks.clearing import RESULTS
from benchmarks.markets import Order, clearer
from benchmarks.timing import interleaved, note, rounded, spread
from benchmarks.words import parser

RESULT = RESULTS / "latency.json"
BLOCK_SIZE = 128
SHAPES = {
    "minilm": LayerShape(384, 12, 12, 32, 1536, 2, BLOCK_SIZE, causal=False),
    "mpnet": LayerShape(768, 12, 12, 64, 3072, 2, BLOCK_SIZE, causal=False),
    "smollm2": LayerShape(576, 9, 3, 64, 1536, 3, BLOCK_SIZE, causal=True),
}
#: (rows, tokens in each)
BATCHES = ((1, 16), (4, 16), (1, 64), (8, 64), (32, 64), (2, 256), (8, 256))
_QUICK = ((1, 8), (2, 16))
_SCARCE = 0.4

Rows = list[dict[str, Any]]
Call = Callable[[], object]


def rows() -> Rows:
    """Every reading: what ``agent-economy bench latency`` prints, and keeps for ``train``."""
    found = measured(SHAPES)
    write(default_table(), found, "agent-economy bench latency")
    return found


@torch.no_grad()
def measured(shapes: dict[str, LayerShape], *, quick: bool = False, device: str = "cpu") -> Rows:
    """Every reading of layers of these shapes, by name, on a device."""
    place = usable_device(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads)  # as many as torch found, and no other number on the way
    note(f"{threads} thread{'s' if threads > 1 else ''}")
    found = []
    for name, shape in shapes.items():
        for batch in _QUICK if quick else BATCHES:
            found += _readings(name, shape, batch, place, quick=quick)
    return found


def write(path: Path, found: Rows, command: str) -> None:
    """Keep readings in a table; others that it holds of other layers or devices stay there.

    Raises:
        EconomyError: those were measured with another number of threads.
    """
    from agent_economy.runs.manifest import environment, now

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in ("kind", "size", "hidden", "device"))

    threads, kept = torch.get_num_threads(), []
    if path.is_file():
        before, new = read_table(path), {place(row) for row in found}
        from_rows(before["rows"])  # a damaged table is not added to
        kept = [row for row in before["rows"] if place(row) not in new]
        if kept and before["threads"] != threads:
            raise EconomyError(
                f"{path} was measured with {before['threads']} threads and these readings with "
                f"{threads}; set OMP_NUM_THREADS={before['threads']}, or remove that file"
            )
    about = {"command": command, "date": now(), **environment(), "threads": threads}
    write_table(path, kept + found, about)
    note(f"latencies are in {path}")


def _readings(
    name: str, shape: LayerShape, batch: tuple[int, int], device: torch.device, *, quick: bool
) -> Rows:
    tokens, length = batch[0] * batch[1], batch[1]
    candidates, counts, sizes = _candidates(shape, batch, device)
    # Short calls are repeated until a reading takes long enough for the clock.
    repeat = {kind: 1 if quick else max(1, 4096 // tokens) for kind in candidates}
    readings = interleaved(
        {kind: _finished(run, device) for kind, run in candidates.items()},
        rounds=2 if quick else 15,
        repeat=repeat,
        say=f"{name}, {batch[0]} x {length}",
    )
    context = (length + 1) // 2 if shape.causal else length
    return [
        {
            "kind": kind,
            "size": sizes[kind],
            "hidden": shape.hidden,
            "tokens": tokens,
            "context": context if kind == "head" else 0,
            "device": device.type,
            "ms": rounded(float(spread(times)["median_ms"]) / counts[kind]),
            "agents": counts[kind],
            **spread(times),
        }
        for kind, times in readings.items()
    ]


def _finished(run: Call, device: torch.device) -> Call:
    """A call that is over when it returns, also on a device that works ahead."""
    if device.type != "cuda":
        return run

    def finished() -> object:
        run()
        return torch.cuda.synchronize(device)

    return finished


def _candidates(
    shape: LayerShape, batch: tuple[int, int], device: torch.device
) -> tuple[dict[Kind, Call], dict[Kind, int], dict[Kind, int]]:
    """What is timed, of how many agents, and how wide each is."""
    hidden, width = shape.hidden, shape.head_dim
    units = max(shape.kv_heads // 2, 1)
    heads = units * shape.heads // shape.kv_heads
    blocks = max(len(shape.block_sizes) // 2, 1)
    neurons = sum(shape.block_sizes[:blocks])

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(*size, device=device)

    x = drawn(*batch, hidden)
    query_WD, out_DW = drawn(heads * width, hidden), drawn(hidden, heads * width)
    keys_WD = drawn(2 * units * width, hidden)
    gate_FD, in_FD, out_DF = drawn(neurons, hidden), drawn(neurons, hidden), drawn(hidden, neurons)
    key = drawn(batch[0], heads, batch[1], width)
    norm = torch.nn.LayerNorm(hidden, device=device).requires_grad_(False)

    def head() -> object:
        query = functional.linear(x, query_WD).unflatten(-1, (heads, width)).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, key, is_causal=shape.causal)
        return functional.linear(mixed.transpose(1, 2).flatten(2), out_DW)

    def block() -> object:
        if shape.ffn_matrices == 3:
            inner = functional.silu(functional.linear(x, gate_FD)) * functional.linear(x, in_FD)
        else:
            inner = functional.gelu(functional.linear(x, in_FD))
        return functional.linear(inner, out_DF)

    candidates: dict[Kind, Call] = {
        "head": head,
        "keys": lambda: functional.linear(x, keys_WD),
        "block": block,
        "rest": lambda: norm(norm(x + x) + x),
        "clearing": clearer(UniformPrice("sequence"), _market(shape, batch, device)),
    }
    counts: dict[Kind, int] = {
        "head": heads,
        "keys": units,
        "block": blocks,
        "rest": 1,
        "clearing": shape.agents,
    }
    sizes: dict[Kind, int] = {
        "head": width,
        "keys": width,
        "block": shape.block_size,
        "rest": hidden,
        "clearing": hidden,
    }
    return candidates, counts, sizes


def _market(shape: LayerShape, batch: tuple[int, int], device: torch.device) -> Order:
    """Random bids of one layer for scarce compute."""
    mask_BL = torch.ones(*batch, dtype=torch.bool, device=device)
    tariff = layer_tariff(shape, mask_BL)
    bid_BLN = torch.rand(*batch, shape.agents, device=device).pow(4)
    supply_BL = (tariff.dense_flops_BL * _SCARCE).long()
    active_N = torch.ones(shape.agents, dtype=torch.bool, device=device)
    limit_BN = torch.full((batch[0], shape.agents), 1e9, device=device)
    return Order(bid_BLN, tariff, supply_BL, active_N, limit_BN)


def _shape_of(model: str, block_size: int) -> dict[str, LayerShape]:
    from agent_economy.adapters import adapter_for
    from agent_economy.zoo import load

    return {Path(model).name: adapter_for(load(model).model, block_size).shape}


def main(words: list[str] | None = None) -> None:
    """Measure, write the result, print what was fitted."""
    known = parser(__doc__)
    known.add_argument("--quick", action="store_true", help="two sizes, two rounds; prints only")
    known.add_argument("--model", help="alias, folder or hub id, instead of the known shapes")
    known.add_argument("--block-size", type=int, default=BLOCK_SIZE, help="neurons of a block")
    known.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    known.add_argument("--out", type=Path, help="another file to keep the table in")
    options = known.parse_args(words)
    shapes = _shape_of(options.model, options.block_size) if options.model else SHAPES
    found = measured(shapes, quick=options.quick, device=options.device)
    if not options.quick or options.out:
        path = options.out or (default_table() if options.model else RESULT)
        write(path, found, "python -m benchmarks.latency")
    for name, shape in shapes.items():
        fitted = LatencyTariff.fit(from_rows(found), shape, torch.device(options.device).type)
        for kind, line in fitted.lines.items():
            print(
                f"{name} {kind}: {line.call_ms:.3g} ms a call, {line.token_ms * 1e3:.3g} us a "
                f"token, {line.pair_ms * 1e6:.3g} ns a token and context token"
            )


if __name__ == "__main__":
    try:
        main()
    except EconomyError as error:
        raise SystemExit(f"agent-economy: {error}") from error
