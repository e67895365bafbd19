"""From tidy rows to heat maps."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

MISSING_COLOUR = "#e4e4e4"
"""Shown where a heat map has no value."""


def wide(
    data: pd.DataFrame, rows: str, columns: str, value: str, text: str = "token_text"
) -> tuple[pd.DataFrame, list[str]]:
    """A tidy frame as a matrix, and the words that go with its columns."""
    matrix = data.pivot_table(index=rows, columns=columns, values=value, sort=True)
    written = data.drop_duplicates(columns).set_index(columns)[text]
    return matrix, [str(written[column]) for column in matrix.columns]


def layer_names(layers: Iterable[int]) -> list[str]:
    """Names for layers; a market that pools all layers is written as layer -1."""
    return ["all" if layer < 0 else f"L{layer}" for layer in layers]
