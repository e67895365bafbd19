"""A table as a figure, for numbers that a reader wants to read rather than see."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure as Canvas

from analysis.style import WIDTH_IN

_ROW_IN, _POINTS = 0.21, 7.6


def draw_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, named: int = 1) -> Canvas:
    """Text in columns as wide as their longest entry, a rule under the head and between groups.

    Args:
        head: column heads; may hold line breaks.
        rows: the cells, as they are to be read.
        named: so many first columns name the row: set to the left, and a name that repeats the
            one above is left out in the first of them, where a thin rule then begins a group.
    """
    lines = max(text.count("\n") for text in head) + 1
    height = _ROW_IN * (len(rows) + lines + 0.6)
    canvas = Canvas(figsize=(WIDTH_IN, height + 0.1))
    ax = canvas.add_axes((0.01, 0.0, 0.98, 1.0))
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) + lines + 0.5, 0)
    columns = list(zip(*rows, strict=True))
    widths = [
        max(len(part) for text in (title, *column) for part in text.split("\n")) + 2.5
        for title, column in zip(head, columns, strict=True)
    ]
    total = sum(widths)
    edges = [sum(widths[:place]) / total for place in range(len(widths) + 1)]
    font = {"fontsize": _POINTS, "va": "center"}
    for place, title in enumerate(head):
        x, ha = (edges[0], "left") if place == 0 else (edges[place + 1], "right")
        if 0 < place < named:
            x, ha = edges[place], "left"
        ax.text(x, lines / 2, title, ha=ha, weight="bold", **font)
    ax.axhline(lines + 0.15, color="#1b1b1b", linewidth=1.2)
    above = ""
    for index, row in enumerate(rows):
        y = lines + 0.75 + index
        if row[0] != above and index:
            ax.axhline(y - 0.5, color="#d9d9d9", linewidth=0.8)
        for place, text in enumerate(row):
            if place == 0 and text == above:
                continue
            x, ha = (edges[place + 1], "right") if place >= named else (edges[place], "left")
            ax.text(x, y, text, ha=ha, **font)
        above = row[0]
    return canvas
