"""How long the cells of a frontier take: clock readings, kept apart from what they score.

A cell's readings lie beside its model as ``timing.json``: what the fastest executor for its kind of
allocation takes (compacted where a plan stands, routed where tokens are served differently), and
the median over interleaved rounds of its time over the dense model's. A dense cell is compared with
itself, which shows how far such a ratio can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from agent_economy.devices import ON_THE_CPU, one_line_if_out_of_memory
from agent_economy.runs.files import write_atomic
from agent_economy.runs.manifest import environment, now
from agent_economy.runs.reader import CELLS, COMPLETE
from agent_economy.training.frontier.cells import DENSE, Cell, read_cells

TIMING = "timing.json"
TIMINGS = "timings"
MEASURES = ("latency_ms_per_example", "latency_ratio_vs_dense")
_COLUMNS = ["method", "budget_fraction", "seed", "executor", "measure", "value"]


@one_line_if_out_of_memory(ON_THE_CPU)
def time_cells(folder: Path, data_dir: Path | None = None, *, again: bool = False) -> list[Path]:
    """Time every complete cell of a sweep that holds a model, on development rows.

    The cells of ``market_many`` hold none: theirs is one model, scored at many budgets, and
    ``agent-economy eval --budget`` tells how long it takes at each.

    Args:
        folder: the sweep.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
        again: also those that were timed before.

    Returns:
        What was written.
    """
    written = []
    for cell in _complete(folder):
        place = folder / CELLS / cell.name
        if not (place / "economy.json").is_file() or (place / TIMING).is_file() > again:
            continue
        timed = _timed(place, cell, data_dir)
        write_atomic(place / TIMING, json.dumps(timed, indent=2) + "\n")
        written.append(place / TIMING)
    return written


def timings(folder: Path, cells: Iterable[Cell]) -> pd.DataFrame:
    """The readings of all cells that were timed: cell, executor, measure, value."""
    rows = []
    for cell in cells:
        path = folder / CELLS / cell.name / TIMING
        if not path.is_file():
            continue
        found = json.loads(path.read_text("utf-8"))
        rows += [
            cell.key | {"executor": found["executor"], "measure": key, "value": float(found[key])}
            for key in MEASURES
        ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _complete(folder: Path) -> list[Cell]:
    return [cell for cell in read_cells(folder) if cell.status == COMPLETE]


def _timed(place: Path, cell: Cell, data_dir: Path | None) -> dict[str, Any]:
    # Reading tables must not cost the import of torch.
    from agent_economy.training.clock import Runner, latency, runner
    from agent_economy.training.evaluate import BATCH_SIZE
    from agent_economy.training.parts import load_part
    from agent_economy.training.score import founded

    data = load_part(str(cell.record["task"]), "validation", data_dir)
    economy, encode = founded(place, data, cell.record)
    rows = encode(data)
    executor = "routed" if economy.market.plan_YN is None else "compacted"
    if cell.method in DENSE:
        executor, fast = "dense", Runner(lambda batch: economy.model(**batch))
    else:
        fast = runner(economy, executor)
    ms, ratio = latency(economy, fast, rows, batch_size=BATCH_SIZE)
    return {
        "executor": executor,
        "latency_ms_per_example": ms,
        "latency_ratio_vs_dense": ratio,
        "batch_size": BATCH_SIZE,
        "date": now(),
        **environment(),
    }
