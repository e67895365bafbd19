"""An executors result as Markdown, with every target and whether it was met."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.executor_cases import CHEAP, COMPACTED, DENSE, MARKET, ROUTED

BEGIN = "<!-- executors: made by `python -m benchmarks.executors`, do not edit -->"
END = "<!-- executors: end -->"

Row = dict[str, Any]

#: rows x tokens from which on overheads no longer decide
_LARGE = 512


class Target(NamedTuple):
    """What a row should reach.

    Attributes:
        column: of the row.
        least: its least value.
        text: in words.
    """

    column: str
    least: float
    text: str


def targets(row: Row) -> list[Target]:
    """What is asked of an executor at this batch and budget."""
    name, budget = row["executor"], row["budget"]
    if row["tokens_per_s"] is not None:
        return []
    large = row["rows"] * row["length"] >= _LARGE
    found = []
    if row["device"] != "cpu":
        if name == COMPACTED:
            found.append(Target("share_of_bound", 0.70, "70 % of the bound"))
        return found
    if name == COMPACTED and large and budget <= 0.5:
        found.append(Target("share_of_bound", 0.95, "95 % of the bound"))
    if name == COMPACTED and budget == 0.25:
        least = 3.7 if large else 2.8
        found.append(Target("speedup", least, f"{least} times dense"))
    if name == ROUTED and large and budget <= 0.5:
        found.append(Target("share_of_bound", 0.75, "75 % of the bound"))
    if name == MARKET and large and budget <= 0.5:
        found.append(Target("share_of_bound", 0.65, "65 % of the bound"))
    if name in (MARKET, CHEAP) and budget <= 0.7 and (large or row["path"] != "masked"):
        # No clock here tells 2 % apart. Small batches may choose to be masked instead.
        found.append(Target("speedup", 0.98, "not slower than dense"))
    return found


def verdicts(rows: list[Row]) -> list[Row]:
    """Every target against what was measured."""
    return [
        {
            "model": row["model"],
            "batch": f"{row['rows']} x {row['length']}",
            "executor": row["executor"],
            "budget": row["budget"],
            "target": target.text,
            "value": row[target.column],
            "met": row[target.column] >= target.least,
        }
        for row in rows
        for target in targets(row)
    ]


def markdown(result: dict[str, Any]) -> str:
    """All tables of a result."""
    rows: list[Row] = result["rows"]
    places = list(dict.fromkeys((row["model"], row["rows"], row["length"]) for row in rows))
    parts = [_about(result)]
    for place in places:
        own = [row for row in rows if (row["model"], row["rows"], row["length"]) == place]
        parts.append(_place(own))
    parts.append(_missed(rows))
    return "\n\n".join(parts)


def _about(result: dict[str, Any]) -> str:
    machine, versions, threads = result["machine"], result["versions"], result["threads"]
    return (
        f"`{result['command']}`: {machine['cpu']}, {machine['cores']} cores, {threads} "
        f"thread{'s' if threads > 1 else ''}, torch {versions['torch']}."
    )


def _place(rows: list[Row]) -> str:
    dense = next(row for row in rows if row["executor"] == DENSE)
    decoding = dense["tokens_per_s"] is not None
    head = ["executor", "budget", "ms", "times dense", "bound", "share of it", "of 1/budget"]
    head += ["tokens/s"] if decoding else ["difference"]
    head += ["extra MiB", "targets"]
    body = []
    for row in rows:
        name = row["executor"]
        if row["path"] is not None and row["path"] != ROUTED:
            name += f" ({row['path']})"
        met = [
            f"{target.text}: {'yes' if row[target.column] >= target.least else 'no'}"
            for target in targets(row)
        ]
        last = row["tokens_per_s"] if decoding else row["difference"]
        body.append(
            [
                name,
                f"{row['budget']:g}",
                f"{row['median_ms']:.3g}",
                f"{row['speedup']:.2f} ({row['speedup_low']:.2f} to {row['speedup_high']:.2f})",
                f"{row['bound']:.2f}",
                f"{row['share_of_bound']:.0%}",
                f"{row['share_of_one_over_budget']:.0%}",
                "" if last is None else (f"{last:.3g}" if decoding else f"{last:.0e}"),
                "" if row["peak_mib"] is None else f"{row['peak_mib']:g}",
                "; ".join(met),
            ]
        )
    title = f"### {dense['model']}, {dense['rows']} x {dense['length']}, {dense['device']}"
    title += f"\n\n{dense['date']}, commit `{str(dense['git_commit'])[:7]}`."
    lines = [head, ["---"] * len(head), *body]
    return title + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _missed(rows: list[Row]) -> str:
    asked = verdicts(rows)
    missed = [each for each in asked if not each["met"]]
    text = f"Met: {len(asked) - len(missed)} of {len(asked)} targets."
    if not missed:
        return text
    listed = "; ".join(
        f"{each['model']} {each['batch']} {each['executor']} at {each['budget']:g} "
        f"({each['value']:.2f}, target {each['target']})"
        for each in missed
    )
    return f"{text} Missed: {listed}."
