"""Measured latencies as a JSON file: readings, and the machine, threads and date they are from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from agent_economy.costs.latency import KINDS, Reading
from agent_economy.errors import EconomyError
from agent_economy.runs.files import write_atomic

MEASURE = "`agent-economy bench latency`"


def as_rows(readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """Readings as rows of a table or a JSON file."""
    return [asdict(each) for each in readings]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Reading]:
    """Readings from rows; other columns are left out.

    Raises:
        EconomyError: a row lacks a column, or is no reading at all.
    """
    names = Reading.__dataclass_fields__
    try:
        readings = [Reading(**{name: row[name] for name in names}) for row in rows]
    except KeyError as error:
        raise EconomyError(
            f"a table of latencies has no column {error.args[0]!r}; make one with {MEASURE}"
        ) from error
    except TypeError as error:
        raise EconomyError(
            f"a table of latencies has a row that is no reading; make one with {MEASURE}"
        ) from error
    for each in readings:
        numbers = (each.size, each.hidden, each.tokens, each.context, each.ms)
        real = all(isinstance(value, Real) and math.isfinite(value) for value in numbers)
        if not real or each.kind not in KINDS or not isinstance(each.device, str):
            raise EconomyError(
                f"a table of latencies has a row that is no reading ({each}); make one with "
                f"{MEASURE}"
            )
    return readings


def write_table(path: Path, rows: list[dict[str, Any]], about: Mapping[str, Any]) -> None:
    """Write a table.

    Args:
        path: of the file.
        rows: readings, with any further columns.
        about: ``date``, ``threads`` and whatever else they were measured with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({**about, "rows": rows}, indent=1) + "\n")


def read_table(path: Path) -> dict[str, Any]:
    """What ``write_table`` wrote: ``rows``, ``date``, ``threads``, ...

    Raises:
        EconomyError: it is not there, or it is no such table.
    """
    if not path.is_file():
        raise EconomyError(
            f"there are no measured latencies at {path}; measure some with {MEASURE}"
        )
    try:
        table = json.loads(path.read_text("utf-8"))
        if {"rows", "date", "threads"} <= table.keys() and isinstance(table["rows"], list):
            return dict(table)
    except (OSError, ValueError, AttributeError):
        pass
    raise EconomyError(f"{path} is no table of latencies; make one with {MEASURE}")
