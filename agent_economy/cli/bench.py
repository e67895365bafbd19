"""Speed and scale: every installed benchmark by its name."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agent_economy.cli.plugins import load, plugins
from agent_economy.cli.tables import columns, number
from agent_economy.errors import EconomyError, unknown

BENCHMARKS = "agent_economy.benchmarks"
"""Entry points ``() -> list of rows``, a row being a dict of column to value."""


def bench(
    name: Annotated[
        str | None,
        typer.Argument(
            help="clearing, executors, latency (measures anew what budgets in milliseconds are "
            "read from), frontier (trains for hours); default: the first two."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure speed and scale on this machine.

    Example: agent-economy bench clearing --json
    """
    points = plugins(BENCHMARKS)
    if name is not None and name not in points:
        raise unknown("benchmark", name, points)
    if not points:
        raise EconomyError("no benchmark is installed yet")
    # A frontier trains a whole family of models, and the table of latencies is what models are
    # priced by: nobody wants either by the way.
    chosen = [name] if name else sorted(points.keys() - {"frontier", "latency"})
    results = {each: load(points[each])() for each in chosen}
    if as_json:
        typer.echo(json.dumps(results, indent=2, default=str))
        return
    for each, rows in results.items():
        typer.echo(f"{each}:")
        header = [tuple(rows[0])] if rows else []
        columns(header + [tuple(number(value) for value in row.values()) for row in rows])
