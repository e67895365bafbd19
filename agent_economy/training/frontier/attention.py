"""How the attention of a frontier's models differs from that of the dense one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agent_economy.metrics.frontier import Draws, mean_difference
from agent_economy.runs.reader import COMPLETE
from agent_economy.training.frontier.cells import DENSE, Cell
from agent_economy.training.frontier.statistics import named, of_part

ALL_LAYERS = -1
MEASURES = ("entropy_nats", "gini")
ATTENTION_COLUMNS = [
    *("part", "method", "budget_fraction", "measure", "layer", "value", "low", "high"),
    *("reference", "reference_value", "difference", "difference_low", "difference_high"),
    *("seeds", "n"),
]


def attention_changes(cells: Sequence[Cell], part: str) -> pd.DataFrame:
    """Entropy and Gini of every model's attention against dense; `ATTENTION_COLUMNS`.

    Layer `ALL_LAYERS` is the mean over layers, every layer weighing the same, over those layers of
    a row that both models know; a layer none of whose heads serves a row is not known.

    Args:
        cells: all of them; those without attention are left out.
        part: of the data.

    Returns:
        No row where no dense model was measured.
    """
    measured = [c for c in cells if c.status == COMPLETE and len(of_part(c.attention, part))]
    reference = next((name for name in DENSE if any(c.method == name for c in measured)), None)
    found: list[dict[str, Any]] = []
    if reference is not None:
        tables = [of_part(cell.attention, part) for cell in measured]
        layers, examples = (
            np.unique(np.concatenate([table[column] for table in tables]))
            for column in ("layer", "example")
        )
        draws = Draws(len(examples))
        for measure in MEASURES:
            values = {
                (cell.method, cell.budget_fraction, cell.seed): _grid(
                    table, measure, layers, examples
                )
                for cell, table in zip(measured, tables, strict=True)
            }
            dense = {seed: value for (name, _, seed), value in values.items() if name == reference}
            for method, budget in dict.fromkeys(key[:2] for key in values):
                own = {
                    key[2]: value for key, value in values.items() if key[:2] == (method, budget)
                }
                seeds = sorted(own.keys() & dense.keys())
                if method == reference or not seeds:
                    continue
                about = {
                    "part": part,
                    "method": method,
                    "budget_fraction": budget,
                    "measure": measure,
                    "reference": reference,
                    "seeds": len(seeds),
                }
                ours, theirs = (np.stack([side[s] for s in seeds]) for side in (own, dense))
                found += [about | row for row in _changes(draws, ours, theirs, layers.tolist())]
    return pd.DataFrame(found, columns=ATTENTION_COLUMNS)


def _grid(
    table: pd.DataFrame, measure: str, layers: np.ndarray, examples: np.ndarray
) -> np.ndarray:
    """A model's values by layer and example, NaN where there is none."""
    value_YX = np.full((len(layers), len(examples)), np.nan)
    place_Y = np.searchsorted(layers, table["layer"])
    value_YX[place_Y, np.searchsorted(examples, table["example"])] = table[measure]
    return value_YX


def _changes(
    draws: Draws, ours_SYX: np.ndarray, theirs_SYX: np.ndarray, layers: Sequence[int]
) -> Iterator[dict[str, Any]]:
    known_SYX = np.isfinite(ours_SYX) & np.isfinite(theirs_SYX)
    count_SX = np.where(known_SYX.any(axis=1), known_SYX.sum(axis=1), np.nan)
    pooled = [
        np.where(known_SYX, side, 0).sum(axis=1) / count_SX for side in (ours_SYX, theirs_SYX)
    ]
    by_layer = [(ours_SYX[:, place], theirs_SYX[:, place]) for place in range(len(layers))]
    for layer, (ours_SX, theirs_SX) in zip([ALL_LAYERS, *layers], [pooled, *by_layer], strict=True):
        ours, theirs, difference = mean_difference(draws, ours_SX, theirs_SX)
        yield {
            "layer": layer,
            **named(("value", "low", "high"), ours),
            "reference_value": theirs.value,
            **named(("difference", "difference_low", "difference_high"), difference),
            "n": int((np.isfinite(ours_SX) & np.isfinite(theirs_SX)).sum()),
        }
