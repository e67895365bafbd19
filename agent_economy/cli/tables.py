"""Tables as the command line prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer


def number(value: Any) -> str:
    """A value in four digits; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows with their columns aligned, nothing around them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
