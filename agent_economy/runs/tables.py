"""Rows to Parquet such that the values alone decide the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.scenario import Cell


def plain(frame: pd.DataFrame) -> pa.Table:
    """The columns of a frame, without index, pandas metadata or category encoding."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table.column(place).cast(field.type.value_type)
            table = table.set_column(place, field.name, values)
    return table


def with_cell(frame: pd.DataFrame, cell: Cell, name: str) -> pa.Table:
    """The rows of one cell with the cell's own columns put first.

    Raises:
        ValueError: table ``name`` already has a column that the cell has.
    """
    table = plain(frame)
    twice = set(cell) & set(table.column_names)
    if twice:
        raise ValueError(f"table {name!r} already has the cell's columns {sorted(twice)}")
    for place, (key, value) in enumerate(cell.items()):
        column = pa.chunked_array([pa.repeat(pa.scalar(value), len(table))])
        table = table.add_column(place, key, column)
    return table


def merge(files: Sequence[Path]) -> pa.Table:
    """The rows of several files, in order.

    Types are widened where cells differ: integers that are real in another cell become real in
    all, a column that a cell lacks is null there.
    """
    parts = [pq.read_table(file, partitioning=None) for file in files]
    return pa.concat_tables(parts, promote_options="permissive")


def encode(table: pa.Table) -> bytes:
    """A table as a Parquet file, every setting that shapes bytes pinned."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        version="2.6",
        data_page_version="1.0",
        row_group_size=1 << 20,
        store_schema=True,
    )
    return bytes(sink.getvalue().to_pybytes())
