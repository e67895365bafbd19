"""Whether an allocation becomes time: every executor against dense, side by side.

    agent-economy bench executors --json         measure and print
    python -m benchmarks.executors               measure; write result and tables
    python -m benchmarks.executors --resume      go on with a measurement that was cut off
    python -m benchmarks.executors --again NAME  measure anew what has this in its name
    python -m benchmarks.executors --draw        tables again from that result
    python -m benchmarks.executors --quick       small batches, two rounds; prints only
    python -m benchmarks.executors --device cuda one large batch in bfloat16; prints only

Encoders alone, of MiniLM's and MPNet's shape, and decoding at SmolLM2's, with random weights.
Executors and budgets take turns in every round. A speed-up is the median over rounds of dense time
over an executor's time; its bound is dense agent FLOPs over executed ones, set-up included.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent_economy.devices import usable_device
from agent_economy.errors import EconomyError
from agent_economy.runs.files import write_atomic
from agent_economy.runs.manifest import git_commit, now
from benchmarks import executor_tables
from benchmarks.clearing import README, RESULTS
from benchmarks.executor_cases import (
    DENSE,
    Candidate,
    decoder_cases,
    encoder_cases,
    has_onnx,
    peak_mib,
)
from benchmarks.shapes import SHAPES, Batch, decoder, encoder
from benchmarks.tables import replaced
from benchmarks.timing import interleaved, note, rounded, spread
from benchmarks.words import parser

RESULT = RESULTS / "executors.json"
PART = RESULTS / "executors.part.json"
BUDGETS = (0.25, 0.5, 0.7)
BATCHES = (Batch(32, 64), Batch(8, 256), Batch(1, 16))
DECODING, NEW_TOKENS = Batch(1, 32), 16

Rows = list[dict[str, Any]]
Unit = Callable[[], Rows]


def rows(*, quick: bool = False, device: str = "cpu", part: Path | None = None) -> Rows:
    """Every row: what ``agent-economy bench executors`` prints.

    Args:
        quick: small batches, one budget and two rounds, to see that everything runs.
        device: where; on ``cuda`` one large batch in bfloat16.
        part: rows of what was measured before are read from there, and added to.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(threads)  # as many as torch found, and no other number on the way
    note(f"{threads} thread{'s' if threads > 1 else ''}")
    known: dict[str, Rows] = {}
    if part is not None and part.is_file():
        known = json.loads(part.read_text("utf-8"))
    for name, unit in units(quick=quick, device=device).items():
        if name in known:
            note(f"{name}: measured before")
            continue
        known[name] = [row | {"date": now()[:10], "git_commit": git_commit()} for row in unit()]
        if part is not None:
            write_atomic(part, json.dumps(known))
    return [row for each in known.values() for row in each]


def units(*, quick: bool, device: str) -> dict[str, Unit]:
    """What is measured in one interleaved run each, by name."""
    if usable_device(device).type == "cuda":
        batch = Batch(256, 128)
        return {
            f"{shape}, {batch.name}, {device}": partial(
                encoder_rows, shape, batch, BUDGETS, rounds=15, device=device
            )
            for shape in SHAPES
        }
    if quick:
        small = {"num_hidden_layers": 2}
        found: dict[str, Unit] = {
            "quick encoder": partial(
                encoder_rows, "minilm", Batch(4, 16), (0.25,), rounds=2, sizes=small
            ),
            "quick decoder": partial(
                decoder_rows, Batch(1, 8), (0.25,), 3, rounds=2, sizes={**small, "vocab_size": 99}
            ),
        }
        return found
    found = {
        f"{shape}, {batch.name}": partial(encoder_rows, shape, batch, BUDGETS, rounds=15)
        for shape in SHAPES
        for batch in BATCHES
    }
    found["decoding"] = partial(decoder_rows, DECODING, BUDGETS[:2], NEW_TOKENS, rounds=7)
    return found


@torch.no_grad()
def encoder_rows(
    shape: str,
    batch: Batch,
    budgets: tuple[float, ...],
    *,
    rounds: int,
    device: str = "cpu",
    sizes: dict[str, int] | None = None,
) -> Rows:
    """One shape and batch: every executor at every budget."""
    adapter = encoder(shape, **(sizes or {}))
    if device != "cpu":
        adapter = type(adapter)(adapter.model.to(device, torch.bfloat16), adapter.shape.block_size)
    note(f"{shape}, {batch.name}: preparing")
    cases = encoder_cases(adapter, batch, budgets, onnx=device == "cpu" and has_onnx())
    # Readings of the smallest batches are means of several calls.
    repeat = max(1, 256 // (batch.rows * batch.length))
    about = {"model": shape, "rows": batch.rows, "length": batch.length, "device": device}
    return _timed(about, cases, rounds, repeat)


@torch.no_grad()
def decoder_rows(
    batch: Batch,
    budgets: tuple[float, ...],
    new_tokens: int,
    *,
    rounds: int,
    sizes: dict[str, int] | None = None,
) -> Rows:
    """Decoding: every executor at every budget, in tokens per second."""
    adapter = decoder(**(sizes or {}))
    note(f"decoding, {batch.name}: preparing")
    cases = decoder_cases(adapter, batch, budgets, new_tokens)
    about = {
        "model": "smollm2, decoding",
        "rows": batch.rows,
        "length": batch.length + new_tokens,
        "device": "cpu",
    }
    found = _timed(about, cases, rounds, 1)
    for row in found:
        row["tokens_per_s"] = rounded(batch.rows * new_tokens / row["median_ms"] * 1e3)
    return found


def _timed(about: dict[str, Any], cases: list[Candidate], rounds: int, repeat: int) -> Rows:
    peaks = [peak_mib(case.run) for case in cases]
    by_name = {f"{case.name} {case.budget}": case for case in cases}
    readings = interleaved(
        {name: case.run for name, case in by_name.items()},
        rounds=rounds,
        repeat=dict.fromkeys(by_name, repeat),
        say=", ".join(str(value) for value in about.values()),
    )
    dense_ms = readings[f"{DENSE} {1.0}"]
    found = []
    for (name, case), peak in zip(by_name.items(), peaks, strict=True):
        ratios = [dense / own for dense, own in zip(dense_ms, readings[name], strict=True)]
        low, speedup, high = (rounded(float(x)) for x in np.percentile(ratios, (25, 50, 75)))
        found.append(
            {
                **about,
                "executor": case.name,
                "budget": case.budget,
                "path": case.path,
                "threads": torch.get_num_threads(),
                **spread(readings[name]),
                "speedup": speedup,
                "speedup_low": low,
                "speedup_high": high,
                "bound": rounded(case.bound),
                "share_of_bound": rounded(speedup / case.bound),
                "share_of_one_over_budget": rounded(speedup * case.budget),
                "difference": None if case.difference is None else rounded(case.difference),
                "peak_mib": peak,
                "tokens_per_s": None,
            }
        )
    return found


def measured(
    *, quick: bool = False, device: str = "cpu", part: Path | None = None
) -> dict[str, Any]:
    """The rows with what they were measured with."""
    from agent_economy.runs.manifest import environment

    command = "python -m benchmarks.executors" + (" --quick" if quick else "")
    about = {"command": command, "date": now(), **environment()}
    found = rows(quick=quick, device=device, part=part)
    return about | {"threads": torch.get_num_threads(), "rows": found}


def _kept(again: str) -> dict[str, Rows]:
    """The result on disk without the units that are to be measured anew."""
    names = units(quick=False, device="cpu")
    if not any(again in name for name in names):
        raise EconomyError(f"nothing measured is called {again!r}; choose among {', '.join(names)}")
    if not RESULT.is_file():
        raise EconomyError(f"{RESULT.name} is not there yet; leave --again out")
    found: dict[str, Rows] = {}
    for row in json.loads(RESULT.read_text("utf-8"))["rows"]:
        decoding = row["tokens_per_s"] is not None
        batch = Batch(row["rows"], row["length"])
        name = "decoding" if decoding else f"{row['model']}, {batch.name}"
        if again not in name:
            found.setdefault(name, []).append(row)
    return found


def draw(result: dict[str, Any], readme: Path = README) -> None:
    """README's tables from a result."""
    text = replaced(
        readme.read_text("utf-8"),
        executor_tables.markdown(result),
        executor_tables.BEGIN,
        executor_tables.END,
    )
    write_atomic(readme, text)


def main(words: list[str] | None = None) -> None:
    """Measure, write the result and what is made from it."""
    known = parser(__doc__)
    known.add_argument("--quick", action="store_true", help="small, two rounds; prints only")
    known.add_argument("--draw", action="store_true", help="measure nothing, draw the result")
    known.add_argument("--resume", action="store_true", help="keep what was measured before")
    known.add_argument("--again", metavar="NAME", help="only what has this in its name")
    known.add_argument("--device", default="cpu", help="cpu or cuda; cuda prints only")
    options = known.parse_args(words)
    if options.draw:
        draw(json.loads(RESULT.read_text("utf-8")))
        return
    if options.quick or options.device != "cpu":
        result = measured(quick=options.quick, device=options.device)
    else:
        if not options.resume:
            PART.unlink(missing_ok=True)
        if options.again is not None:
            write_atomic(PART, json.dumps(_kept(options.again)))
        result = measured(part=PART)
        write_atomic(RESULT, json.dumps(result, indent=1) + "\n")
        draw(result)
        PART.unlink(missing_ok=True)
    print(executor_tables.markdown(result))


if __name__ == "__main__":
    try:
        main()
    except EconomyError as error:
        raise SystemExit(f"agent-economy: {error}") from error
