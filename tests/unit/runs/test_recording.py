"""Rows in pieces: the same tables, and no more memory than a piece."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counting import Config, Counting, Session

from agent_economy.runs import tables
from agent_economy.runs.recording import Recorder, pieces_of
from agent_economy.runs.runner import Interrupted, execute
from agent_economy.runs.scenario import Cell


def test_columns_grow_and_are_handed_over() -> None:
    record = Recorder(rows=3)
    record.add(step=0, name="a", loss=[0.5, 1.0])
    assert not record.full
    record.add(step=1, name="b", loss=[2.0, 3.0])
    assert record.full
    frame = record.take()
    assert frame["step"].tolist() == [0, 0, 1, 1] and frame["name"].tolist() == [*"aabb"]
    assert frame["loss"].tolist() == [0.5, 1.0, 2.0, 3.0]
    assert not record.full and list(record.take()) == ["step", "name", "loss"]
    with pytest.raises(ValueError, match="do not fit"):
        record.add(step=0, loss=[0.0])
    with pytest.raises(ValueError, match="do not fit"):
        record.add(step=[0], name="a", loss=[0.0, 1.0])


def test_empty_pieces_say_nothing_but_the_columns() -> None:
    empty, full = pd.DataFrame({"a": []}), pd.DataFrame({"a": [1.0]})
    assert [len(piece) for piece in pieces_of(iter([empty, full, empty]))] == [0, 1]
    assert [len(piece) for piece in pieces_of(full)] == [1]


class Piecewise(Counting):
    """The same numbers, in pieces of seven rows; says when each is asked for."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self.asked = asked

    def run_cell(self, session: Session, cell: Cell) -> dict[str, Iterator[pd.DataFrame]]:  # type: ignore[override]
        whole = super().run_cell(session, cell)
        return {name: self._pieces(name, frame) for name, frame in whole.items()}

    def _pieces(self, name: str, frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
        for start in range(0, len(frame), 7):
            self.asked.append(name)
            yield frame.iloc[start : start + 7]


def test_pieces_end_with_the_bytes_of_whole_tables(tmp_path: Path) -> None:
    asked: list[str] = []
    one = execute(Counting(), Config(), tmp_path / "whole", resume=False)
    other = execute(Piecewise(asked), Config(), tmp_path / "pieces", resume=False)
    for name in ("metrics", "prices", "agents"):
        file = f"{name}.parquet"
        assert (one / file).read_bytes() == (other / file).read_bytes()
    # Table after table, piece after piece: 50 prices are eight pieces.
    assert asked[:10] == ["metrics", *["prices"] * 8, "timings"]


def test_a_cell_that_breaks_off_leaves_no_half_table(tmp_path: Path) -> None:
    class Breaking(Counting):
        def run_cell(self, session: Session, cell: Cell) -> dict[str, Iterator[pd.DataFrame]]:  # type: ignore[override]
            if cell["seed"] == 1:
                return {"prices": breaking()}
            return super().run_cell(session, cell)  # type: ignore[return-value]

    def breaking() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"layer": [1], "price_per_gflop": [0.5]})
        raise KeyboardInterrupt

    folder = tmp_path / "broken"
    with pytest.raises(Interrupted, match="--resume"):
        execute(Breaking(), Config(), folder, resume=False)
    assert [path.name for path in (folder / "parts" / "prices").iterdir()] == ["000000.parquet"]
    execute(Counting(), Config(), folder, resume=True)
    whole = execute(Counting(), Config(), tmp_path / "whole", resume=False)
    assert (folder / "prices.parquet").read_bytes() == (whole / "prices.parquet").read_bytes()


def test_row_groups_do_not_tell_how_rows_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 10)
    rows = pa.table({"x": list(range(37)), "w": [str(k % 3) for k in range(37)]})
    files = []
    for size in (1, 4, 25, 37):
        file = io.BytesIO()
        tables.write(file, (rows.slice(start, size) for start in range(0, 37, size)))
        files.append(file.getvalue())
    assert files[0] == files[1] == files[2] == files[3]
    groups = pq.ParquetFile(io.BytesIO(files[0]))
    assert [groups.metadata.row_group(g).num_rows for g in range(4)] == [10, 10, 10, 7]
    assert groups.read().equals(rows)
    with pytest.raises(ValueError, match="at least one piece"):
        tables.write(io.BytesIO(), [])
