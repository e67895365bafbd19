"""What clearing a market costs: against the dense forward, bid by bid, and against solvers.

    agent-economy bench clearing --json         measure and print
    python -m benchmarks.clearing               measure; write result, tables and figure
    python -m benchmarks.clearing --draw        tables and figure again from that result
    python -m benchmarks.clearing --quick       a minute instead of ten: two sizes, two rounds

Three questions, each a module with its rows: ``forward`` (1,024 tokens x 144 agents against
MiniLM's dense forward), ``scaling`` (time per bid and memory from 10^4 to 10^7 bids, against
sorting) and ``solvers`` (HiGHS and CLARABEL on the same markets).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from agent_economy.runs.files import write_atomic
from benchmarks import forward, scaling, solvers, tables
from benchmarks.row import Row
from benchmarks.timing import note
from benchmarks.words import parser

RESULTS = Path(__file__).parent / "results"
RESULT = RESULTS / "clearing.json"
README = Path(__file__).parent / "README.md"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "clearing.png"


def rows(*, quick: bool = False) -> list[Row]:
    """Every row: what ``agent-economy bench clearing`` prints.

    Args:
        quick: two sizes and two rounds, to see that everything runs; timings mean little.
    """
    # As many as torch found (OMP_NUM_THREADS decides), and no other number on the way.
    threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    note(f"{threads} thread{'s' if threads > 1 else ''}")
    return forward.rows(quick=quick) + scaling.rows(quick=quick) + solvers.rows(quick=quick)


def measured(*, quick: bool = False) -> dict[str, Any]:
    """The rows with what they were measured with."""
    from agent_economy.runs.manifest import environment, now

    command = "python -m benchmarks.clearing" + (" --quick" if quick else "")
    # Read before the run: what the tree holds afterwards says nothing about the rows.
    about = {"command": command, "date": now(), **environment()}
    return about | {"threads": torch.get_num_threads(), "rows": rows(quick=quick)}


def draw(result: dict[str, Any], readme: Path = README, figure: Path = FIGURE) -> None:
    """README's tables and the figure, from a result."""
    from benchmarks.figure import png

    write_atomic(readme, tables.replaced(readme.read_text("utf-8"), tables.markdown(result)))
    write_atomic(figure, png(result))


def main(words: list[str] | None = None) -> None:
    """Measure, write the result and what is made from it."""
    known = parser(__doc__)
    known.add_argument("--quick", action="store_true", help="two sizes, two rounds; prints only")
    known.add_argument("--draw", action="store_true", help="measure nothing, draw the result")
    known.add_argument("--out", type=Path, help="write the result there and draw nothing")
    options = known.parse_args(words)
    if options.draw:
        draw(json.loads(RESULT.read_text("utf-8")))
        return
    result = measured(quick=options.quick)
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        write_atomic(options.out, text)
    elif not options.quick:
        write_atomic(RESULT, text)
        draw(result)
    print(tables.markdown(result))


if __name__ == "__main__":
    main()
