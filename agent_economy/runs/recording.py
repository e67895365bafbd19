"""Rows that a long cell records step by step, kept as columns and handed over in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    Rows = pd.DataFrame | Iterable[pd.DataFrame]
    """A table of one cell: whole, or piece by piece as it is measured."""

PIECE_ROWS = 512
"""Rows that a recorder holds before it hands them over."""


class Recorder:
    """Columns that grow step by step.

    A cell that measures for long yields what its recorder has whenever it is ``full``, and the
    rest at the end; the run folder writes each piece to disk, so memory does not grow with steps.

    Example:
        >>> record = Recorder()
        >>> record.add(step=0, loss=[0.1, 0.2])
        >>> record.add(step=1, loss=[0.3, 0.4])
        >>> record.take()["step"].tolist()
        [0, 0, 1, 1]

    Args:
        rows: that make it full.
    """

    def __init__(self, rows: int = PIECE_ROWS) -> None:
        self.rows = rows
        self._columns: dict[str, list[Any]] = {}
        self._held = 0

    def add(self, **values: Any) -> None:
        """Append the rows of a step.

        Args:
            values: a column each: one value per row, or one for all of them (a number or a word).

        Raises:
            ValueError: columns are not those of the steps before, or of different lengths.
        """
        sizes = {len(value) for value in values.values() if _is_column(value)} or {1}
        if len(sizes) > 1 or (self._columns and self._columns.keys() != values.keys()):
            raise ValueError(f"columns {sorted(values)} of lengths {sorted(sizes)} do not fit")
        (size,) = sizes
        for name, value in values.items():
            column = self._columns.setdefault(name, [])
            column.extend(value if _is_column(value) else (value,) * size)
        self._held += size

    @property
    def full(self) -> bool:
        """Whether it is time to hand the rows over."""
        return self._held >= self.rows

    def take(self) -> pd.DataFrame:
        """The rows recorded since the last time; the columns stay, empty."""
        import pandas as pd

        frame = pd.DataFrame(self._columns)
        self._columns, self._held = {name: [] for name in self._columns}, 0
        return frame


def pieces_of(rows: Rows) -> Iterator[pd.DataFrame]:
    """The pieces of a table, one where it is whole; empty ones but the first are left out."""
    import pandas as pd

    for place, piece in enumerate((rows,) if isinstance(rows, pd.DataFrame) else rows):
        if place == 0 or len(piece):
            yield piece


def _is_column(value: Any) -> bool:
    return isinstance(value, Sized) and not isinstance(value, str)
