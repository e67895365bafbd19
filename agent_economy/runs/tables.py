"""Rows to Parquet such that the values alone decide the bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.scenario import Cell

GROUP_ROWS = 1 << 17
"""Rows in a row group of a finished table, which bounds what writing one keeps in memory."""
_NOTHING = "a table needs at least one piece, if an empty one, for its columns"


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


def merged(files: Sequence[Path]) -> Iterator[pa.Table]:
    """The rows of several files, in order, a row group at a time.

    Types are widened where cells differ: integers that are real in another cell become real in
    all, a column that a cell lacks is null there.
    """
    schemas = [pq.read_schema(file) for file in files]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    for file in files:
        with pq.ParquetFile(file) as part:
            for group in range(part.num_row_groups):
                rows = [schema.empty_table(), part.read_row_group(group)]
                yield pa.concat_tables(rows, promote_options="permissive")
            if not part.num_row_groups:
                yield schema.empty_table()


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    file = io.BytesIO()
    write(file, [table])
    return file.getvalue()


def write(file: BinaryIO, pieces: Iterable[pa.Table]) -> None:
    """Tables of one schema, one after the other, as a Parquet file.

    Row groups hold `GROUP_ROWS` rows however the pieces are cut, so that the rows alone decide
    the bytes; no more than a group is held in memory.

    Raises:
        ValueError: there is no piece at all.
    """
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        waiting: list[pa.Table] = []
        for piece in pieces:
            writer = writer or stack.enter_context(_writer(file, piece.schema))
            waiting.append(piece)
            while sum(map(len, waiting)) >= GROUP_ROWS:
                rows = pa.concat_tables(waiting)
                _write_group(writer, rows.slice(0, GROUP_ROWS))
                waiting = [rows.slice(GROUP_ROWS)]
        if writer is None:
            raise ValueError(_NOTHING)
        rows = pa.concat_tables(waiting)
        if len(rows):
            _write_group(writer, rows)


def flush(file: BinaryIO, pieces: Iterable[pa.Table]) -> None:
    """As `write`, but every piece is a row group of its own, on disk as soon as it is there.

    Raises:
        ValueError: there is no piece.
    """
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for piece in pieces:
            writer = writer or stack.enter_context(_writer(file, piece.schema))
            _write_group(writer, piece.cast(writer.schema))
        if writer is None:
            raise ValueError(_NOTHING)


def _write_group(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    writer.write_table(rows.combine_chunks(), row_group_size=GROUP_ROWS)


def _writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Every setting that shapes bytes pinned."""
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=3,
        version="2.6",
        data_page_version="1.0",
        store_schema=True,
    )
