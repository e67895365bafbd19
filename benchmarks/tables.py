"""A clearing result as Markdown, with every target and whether it was met."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from agent_economy.errors import EconomyError
from benchmarks import forward, scaling
from benchmarks.markets import SIZES
from benchmarks.row import Row

BEGIN = "<!-- clearing: made by `python -m benchmarks.clearing`, do not edit -->"
END = "<!-- clearing: end -->"
JOINT, LAYERS = ", joint", ", six layers"


def markdown(result: dict[str, Any]) -> str:
    """All tables of a result."""
    parts = [_about(result), _forward(result["rows"]), _scale(result["rows"])]
    return "\n\n".join([*parts, _solvers(result["rows"])])


def replaced(document: str, text: str, first: str = BEGIN, last: str = END) -> str:
    """The document with what stands between two marks replaced.

    Raises:
        EconomyError: the marks are not there.
    """
    before, begin, rest = document.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise EconomyError(f"no place for the tables: put {first!r} and {last!r} into the document")
    return f"{before}{first}\n{text}\n{last}{after}"


def verdicts(rows: list[Row]) -> list[dict[str, Any]]:
    """Every target against what was measured: the share of the forward, and steady time per bid."""
    found = [
        {
            "candidate": row["candidate"],
            "target": f"{forward.target(row['candidate']):.0%} of {forward.DENSE}",
            "value": row["ratio"],
            "met": row["ratio"] <= forward.target(row["candidate"]),
        }
        for row in rows
        if row["question"] == "forward" and row["candidate"] != forward.DENSE
    ]
    for name, by_size in _by_size(rows).items():
        if name not in scaling.SORTS:
            times = [row["ns_per_bid"] for row in by_size.values()]
            steady = max(times) / min(times)
            found.append(
                {
                    "candidate": name,
                    "target": f"time per bid within {scaling.TARGET:g}",
                    "value": round(steady, 2),
                    "met": steady <= scaling.TARGET,
                }
            )
    return found


def _about(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    threads = result["threads"]
    return (
        f"`{result['command']}`, {result['date'][:10]}, commit `{str(result['git_commit'])[:7]}`: "
        f"{machine['cpu']}, {machine['cores']} cores, {threads} "
        f"thread{'s' if threads > 1 else ''}, torch {versions['torch']}, "
        f"NumPy {versions['numpy']}, SciPy {versions['scipy']}."
    )


def _forward(rows: list[Row]) -> str:
    asked = {row["candidate"]: row for row in rows if row["question"] == "forward"}
    dense = asked.pop(forward.DENSE)
    names = list(dict.fromkeys(_name(candidate) for candidate in asked))
    body = []
    for name in names:
        cells = [asked[name + form] for form in (JOINT, LAYERS)]
        met = [row["ratio"] <= forward.target(name) for row in cells]
        said = {(True, True): "yes", (True, False): "jointly", (False, True): "in six"}
        body.append(
            [
                f"`{name}`",
                *(f"{row['ratio']:.1%} ({_ms(row)})" for row in cells),
                f"{forward.target(name):.0%}",
                said.get((met[0], met[1]), "no"),
            ]
        )
    head = ["mechanism", "one joint clearing", "six spot clearings", "target", "met"]
    return (
        f"### 1,024 tokens x 144 agents, as a share of MiniLM's dense forward ({_ms(dense)})\n\n"
        "Ratios are medians over rounds; in brackets the median time and its quartiles.\n\n"
        + _table(head, body)
        + f"\n\n{_count(rows, 'forward')}"
    )


def _scale(rows: list[Row]) -> str:
    by_name = _by_size(rows)
    sizes = list(next(iter(by_name.values())))
    body = []
    for name, by_size in by_name.items():
        times = [row["ns_per_bid"] for row in by_size.values()]
        largest = by_size[sizes[-1]]
        steady = max(times) / min(times)
        is_sort = name in scaling.SORTS
        body.append(
            [
                name if is_sort else f"`{name}`",
                *(f"{each:.0f}" for each in times),
                f"{steady:.1f}",
                "" if is_sort else ("yes" if steady <= scaling.TARGET else "no"),
                _bytes_per_bid(largest),
                f"{largest['ratio']:.1f}",
            ]
        )
    head = ["ns per bid at", *(f"{size:,} bids" for size in sizes)]
    head += ["slowest / fastest", f"within {scaling.TARGET:g}", "bytes per bid", "sorts"]
    return (
        "### Time per bid and memory\n\n"
        "Peak memory beyond the market itself (resident set of a fresh process) and multiples of "
        f"one row-wise sort, both at {sizes[-1]:,} bids.\n\n"
        + _table(head, body)
        + f"\n\n{_count(rows, 'scale')}"
    )


def _solvers(rows: list[Row]) -> str:
    body = [
        [
            f"{row['bids']:,}",
            row["candidate"],
            f"{row['median_ms'] / 1e3:.2f} s",
            f"`{row['to']}`" if "/" in row["to"] else row["to"],
            f"{row['ratio']:,.0f}",
            f"{row['difference']:+.1e}",
        ]
        for row in rows
        if row["question"] == "solver"
    ]
    head = ["bids", "solver", "time", "against", "times as long", "difference of welfare"]
    return (
        "### General solvers on the same markets\n\n"
        "The solver's own time, against all of the clearing's. Differences are those of ours from "
        "theirs: the linear program's welfare; for Fisher the worst agent's utility.\n\n"
        + _table(head, body)
    )


def _by_size(rows: list[Row]) -> dict[str, dict[int, Row]]:
    """Rows of the second question by name and by nominal size."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row["question"] == "scale":
            nominal = min(SIZES, key=lambda size: abs(size - row["bids"]))
            found[row["candidate"]][nominal] = row
    return dict(found)


def _count(rows: list[Row], question: str) -> str:
    """How many targets of a question were met, and which were not."""
    per_bid = question == "scale"
    asked = [v for v in verdicts(rows) if v["target"].startswith("time per bid") == per_bid]
    missed = [v for v in asked if not v["met"]]
    text = f"Met by {len(asked) - len(missed)} of {len(asked)}"
    return text + ("." if per_bid else " (mechanism, scope, form).")


def _name(candidate: str) -> str:
    return candidate.removesuffix(JOINT).removesuffix(LAYERS)


def _ms(row: Row) -> str:
    return f"{row['median_ms']:.3g} ms, {row['low_ms']:.3g} to {row['high_ms']:.3g}"


def _bytes_per_bid(row: Row) -> str:
    peak = row["peak_mib"]
    return "" if peak is None else f"{peak * 2**20 / row['bids']:.0f}"


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
