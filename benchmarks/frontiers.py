"""Frontiers: train what is left of one, and write down what it came to.

``agent-economy bench frontier`` trains the STS-B frontier (or takes it up again), times its models
and prints its verdicts. ``python -m benchmarks.frontiers runs/frontier-stsb`` writes what a
frontier's folder holds, finished or not, to ``benchmarks/results/frontier-stsb.json`` and into
``benchmarks/frontier/Readme.md``; with ``--time`` it times models that were not timed yet and
nothing else (``agent-economy report`` then draws scores against the clock).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from agent_economy.errors import EconomyError
from agent_economy.training.frontier.statistics import ALL
from benchmarks.tables import replaced
from benchmarks.words import parser

HERE = Path(__file__).parent
CONFIG, OUT = HERE / "frontier" / "stsb.toml", Path("runs/frontier-stsb")
README, RESULTS = HERE / "frontier" / "Readme.md", HERE / "results"
PREFIX = "frontier-"
_CELL, _MADE = ["method", "budget_fraction", "seed"], ("git_commit", "ended")
_DIFFERENCE = ["difference", "difference_low", "difference_high"]
_VERDICT = [
    "part",
    "rival",
    "budget_fraction",
    "verdict",
    "difference",
    "low",
    "high",
    "seeds",
    "n",
]


def run(config: Path = CONFIG, out: Path = OUT) -> list[dict[str, Any]]:
    """Train what is left of the frontier and return its verdicts.

    Days on two cores, hours on a GPU; a killed run goes on where it was.
    """
    from agent_economy.training.frontier.sweep import train_frontier

    train_frontier(config, [], out, 1, resume=out.exists())
    time_models(out)
    return _records(pd.read_parquet(out / "verdicts.parquet")[_VERDICT])


def time_models(folder: Path) -> int:
    """Time the models of a frontier that were not timed yet, and put its tables together anew."""
    from agent_economy.training.frontier.tables import collect
    from agent_economy.training.frontier.timing import time_cells

    count = len(time_cells(folder))
    collect(folder)
    return count


def measured(folder: Path) -> dict[str, Any]:
    """What a frontier's complete cells came to, each with the commit and the time it is from.

    A sweep may go on meanwhile: cells that are still trained count for nothing. Machines, dates
    and versions are those that the cells were trained with, not those of whoever writes this.

    Raises:
        EconomyError: no cell is complete, or the folder has another name than its config.
    """
    from agent_economy.runs.reader import COMPLETE
    from agent_economy.training.frontier.cells import read_cells
    from agent_economy.training.frontier.tables import collect

    tables = collect(folder)
    metrics = tables["metrics"]
    wide = metrics.pivot_table(index=["part", *_CELL], columns="measure", values="value")
    complete = [cell for cell in read_cells(folder) if cell.status == COMPLETE]
    records = [cell.record for cell in complete]
    about = pd.DataFrame(
        [cell.key | {key: cell.record.get(key) for key in _MADE} for cell in complete]
    )
    scored = wide[["score", "n", "flops_fraction"]].dropna(subset="score").reset_index()
    cells = scored.merge(about, on=_CELL)
    name = folder.resolve().name.removeprefix(PREFIX)
    config = HERE / "frontier" / f"{name}.toml"
    if not config.is_file():
        raise EconomyError(
            f"{folder} is named after no frontier that is kept here; call it "
            f"{PREFIX}NAME after its benchmarks/frontier/NAME.toml"
        )
    place = f"-c benchmarks/frontier/{name}.toml -o runs/{PREFIX}{name}"
    return {
        "command": f"agent-economy train --frontier {place}",
        "name": name,
        "task": str(records[0]["task"]),
        "metric": records[0]["metric"],
        "dates": sorted({str(each["ended"])[:10] for each in records if each.get("ended")}),
        "commits": sorted({str(each["git_commit"]) for each in records if each.get("git_commit")}),
        "machines": _distinct(each.get("machine") for each in records),
        "versions": _distinct(each.get("versions") for each in records),
        "cells": _records(cells),
        "verdicts": _records(tables["verdicts"][_VERDICT]),
        "areas": _records(_areas(tables["hypervolume"])),
        "attention": _records(_attention(tables["interpretability"])),
    }


def markdown(result: dict[str, Any]) -> str:
    """Tables for each part that was scored: scores, verdicts, areas, attention."""
    machines = sorted({f"{each['cores']} cores of an {each['cpu']}" for each in result["machines"]})
    dates = result["dates"]
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "no date"
    lines = [
        f"`{result['command']}`, {' and '.join(machines)}, {when}; 100 x {result['metric']}, mean "
        "over seeds.",
    ]
    for part, cells in pd.DataFrame(result["cells"]).groupby("part"):
        verdicts, areas, attention = (
            [each for each in result[name] if each["part"] == part]
            for name in ("verdicts", "areas", "attention")
        )
        lines += ["", f"Part: {part}.", "", *_scores(cells), "", *_judged(verdicts)]
        lines += _area_table(areas) + _attention_table(attention)
    return "\n".join(lines)


def _scores(cells: pd.DataFrame) -> list[str]:
    means = cells.groupby(["method", "budget_fraction"]).agg(
        score=("score", "mean"), seeds=("seed", "nunique"), flops=("flops_fraction", "mean")
    )
    lines = [
        "| method | budget | score | share of dense FLOPs | seeds |",
        "|---|---|---|---|---|",
    ]
    for (method, budget), row in means.sort_index(level=1, ascending=False).iterrows():
        score, flops, seeds = 100 * row["score"], row["flops"], int(row["seeds"])
        lines.append(f"| {method} | {budget:g} | {score:.1f} | {flops:.3f} | {seeds} |")
    return lines


def _judged(verdicts: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| rival | budget | verdict | economy less rival, points (95 %) | seeds |",
        "|---|---|---|---|---|",
    ]
    for each in verdicts:
        if each["verdict"] == "not run":
            continue
        gap = _gap(each["difference"], each["low"], each["high"], 2)
        where = f"{each['rival']} | {each['budget_fraction']:g}"
        lines.append(f"| {where} | {each['verdict']} | {gap} | {int(each['seeds'])} |")
    return lines


def _area_table(areas: list[dict[str, Any]]) -> list[str]:
    """The economy's area under score over budget less each rival's, over what both have.

    Nothing where no rival has several budgets.
    """
    areas = [each for each in areas if "," in each["budgets"] and each["difference"] is not None]
    if not areas:
        return []
    lines = ["", "| rival | economy's area under the frontier less its (95 %) | budgets | note |"]
    lines.append("|---|---|---|---|")
    for each in areas:
        gap = _gap(*(each[key] for key in _DIFFERENCE), 3)
        lines.append(f"| {each['method']} | {gap} | {each['budgets']} | {each['note']} |")
    return lines


def _attention_table(attention: list[dict[str, Any]]) -> list[str]:
    """How much more spread attention is than the dense model's; nothing where not measured."""
    if not attention:
        return []
    lines = [
        "",
        "| method | budget | entropy less dense's, nats | Gini less dense's (95 %) | seeds |",
    ]
    lines.append("|---|---|---|---|---|")
    found: dict[tuple[str, float, int], dict[str, str]] = {}
    for each in attention:
        gaps = found.setdefault((each["method"], each["budget_fraction"], int(each["seeds"])), {})
        gaps[each["measure"]] = _gap(*(each[key] for key in _DIFFERENCE), 3)
    for (method, budget, seeds), gaps in found.items():
        spread = f"{gaps.get('entropy_nats', '')} | {gaps.get('gini', '')}"
        lines.append(f"| {method} | {budget:g} | {spread} | {seeds} |")
    return lines


def _gap(middle: float, low: float, high: float, digits: int) -> str:
    return f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _distinct(values: Iterable[Any]) -> list[Any]:
    """What is there, each once, in an order that does not depend on the cells'."""
    texts = {json.dumps(value, sort_keys=True) for value in values if value}
    return [json.loads(text) for text in sorted(texts)]


def _areas(table: pd.DataFrame) -> pd.DataFrame:
    """Over all seeds that both sides have; ``note`` says which, and over which budgets."""
    kept = ["part", "method", "budgets", "value", "low", "high", *_DIFFERENCE, "note"]
    return table.loc[table["seed"] == ALL, kept]


def _attention(table: pd.DataFrame) -> pd.DataFrame:
    """Over all layers, of those that are not what they are compared with."""
    whole = table[(table["layer"] == ALL) & (table["method"] != table["reference"])]
    return whole[["part", "method", "budget_fraction", "measure", "value", *_DIFFERENCE, "seeds"]]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: numbers that are not there are null."""
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def main(words: list[str] | None = None) -> None:
    """Write a frontier down."""
    from agent_economy.runs.files import write_atomic

    known = parser(__doc__)
    known.add_argument("folder", type=Path, help="of `agent-economy train --frontier`")
    known.add_argument("--time", action="store_true", help="time its models and do nothing else")
    options = known.parse_args(words)
    if options.time:
        print(f"{time_models(options.folder)} models timed")
        return
    result = measured(options.folder)
    table = markdown(result)
    text = json.dumps(result, indent=1) + "\n"
    marks = f"<!-- {result['name']} -->", f"<!-- end of {result['name']} -->"
    document = replaced(README.read_text("utf-8"), table, *marks)
    write_atomic(RESULTS / f"{PREFIX}{result['name']}.json", text)
    write_atomic(README, document)
    print(table)


if __name__ == "__main__":
    main()
