"""A frontier as its page shows it: verdicts, areas, attention and spend as rows of tables.

Every word and number is taken from the sweep's tables; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from agent_economy.runs.reader import CELLS, COMPLETE, RESUME, Run
from analysis.frontier_names import DENSE, MARKET, in_order, label
from analysis.style import percent

ALL = -1
"""The seed of a mean over seeds, the layer of a mean over layers."""
WORDS = ("win", "not worse", "lost", "not run")
MEASURES = {"entropy_nats": "entropy, nats", "gini": "Gini"}
FLOPS = "flops_fraction"
METRICS = {
    "matthews": "Matthews correlation, points of 100",
    "pearson_spearman": "mean of Pearson and Spearman, points of 100",
    "accuracy": "accuracy in %",
    "perplexity": "minus 100 x the logarithm of perplexity (a point is 1 %)",
}


@dataclass(frozen=True)
class Entry:
    """One cell of a table: what to read first, and small lines under it."""

    text: str
    lines: tuple[str, ...] = ()
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: rows by name, columns by budget."""

    head: list[str]
    rows: list[tuple[str, list[Entry | None]]]


@dataclass(frozen=True)
class Part:
    """What is said of one part of the data."""

    name: str
    metric: str
    margin: str
    findings: list[str]
    verdicts: Grid
    volumes: list[dict[str, str]]
    attention: Grid
    spend: Grid


@dataclass(frozen=True)
class FrontierPage:
    """The frontier of one sweep.

    Attributes:
        parts: of the data; development first.
        cells: how many were planned.
        gone: the cells that count for nothing, with the reason.
        seeds: how many the economy was trained under.
        economy: the variant that the config declares.
        resume: the command that completes the sweep.
    """

    parts: list[Part]
    cells: int
    gone: list[str]
    seeds: int
    economy: str
    resume: str


def frontier_page(run: Run) -> FrontierPage | None:
    """The page's numbers; None where the run is no frontier."""
    if not {CELLS, "verdicts", "metrics"} <= set(run.tables) or run.scenario != "frontier":
        return None
    cells, metrics, verdicts = (run.table(name) for name in (CELLS, "metrics", "verdicts"))
    economy = cells[(cells["method"] == MARKET) & (cells["status"] == COMPLETE)]
    parts = list(dict.fromkeys(verdicts["part"]))
    return FrontierPage(
        parts=[_part(run, part) for part in parts if (metrics["part"] == part).any()],
        cells=len(cells),
        gone=[_gone(row) for row in cells[cells["status"] != COMPLETE].itertuples()],
        seeds=economy["seed"].nunique(),
        economy=_declared(run.config.get("economy")),
        resume=str(run.manifest.get(RESUME, "")),
    )


def scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean score in points and mean share of FLOPs of every method and budget.

    Returns:
        part, method, budget_fraction, ``score`` with its least and most over seeds, ``flops`` (the
        share of the dense agents' FLOPs that was measured) likewise, and ``seeds``.
    """
    keys = ["part", "method", "budget_fraction"]
    rows = metrics[metrics["measure"].isin(["score", FLOPS])]
    wide = rows.pivot(index=[*keys, "seed"], columns="measure", values="value")
    wide = wide.reindex(columns=["score", FLOPS]).rename(columns={FLOPS: "flops"}).reset_index()
    wide["score"] *= 100
    found = wide.groupby(keys, sort=False).agg(
        score=("score", "mean"),
        score_low=("score", "min"),
        score_high=("score", "max"),
        flops=("flops", "mean"),
        flops_low=("flops", "min"),
        flops_high=("flops", "max"),
        seeds=("seed", "nunique"),
    )
    found = found.reset_index()
    place = found["method"].map({name: at for at, name in enumerate(in_order(found["method"]))})
    first = found["part"] != "development"
    order = pd.DataFrame({"a": first, "b": found["part"], "c": place, "d": found[keys[2]]})
    return found.loc[order.sort_values(list("abcd")).index].reset_index(drop=True)


def points(value: float) -> str:
    """A difference in points, with its sign."""
    return f"{value:+.1f}"


def between(low: float, high: float, digits: int = 1) -> str:
    """An interval, or that there is none."""
    if low != low:
        return "no interval"
    return f"{low:+.{digits}f} to {high:+.{digits}f}"


def _part(run: Run, part: str) -> Part:
    verdicts = _of(run, "verdicts", part)
    first = verdicts.iloc[0]
    budgets = sorted(verdicts["budget_fraction"].unique(), reverse=True)
    return Part(
        name=part,
        metric=METRICS.get(first["metric"], str(first["metric"])),
        margin=f"{first['margin']:g}",
        findings=[*_counts(verdicts), *_gaps(verdicts, budgets)],
        verdicts=_grid(verdicts, "rival", budgets, _verdict),
        volumes=_volumes(_of(run, "hypervolume", part)),
        attention=_attention(_of(run, "interpretability", part), budgets),
        spend=_spend(_of(run, "metrics", part), budgets),
    )


def _declared(economy: object) -> str:
    """The economy's method and options, as the config has them."""
    if not isinstance(economy, dict):
        return str(economy or "")
    options = [f"{key} = {value}" for key, value in (economy.get("options") or {}).items()]
    return ", ".join([str(economy.get("name", "")), *options])


def _of(run: Run, table: str, part: str) -> pd.DataFrame:
    if table not in run.tables:
        return pd.DataFrame()
    rows = run.table(table)
    return rows[rows["part"] == part]


def _grid(
    rows: pd.DataFrame, names: str, budgets: Sequence[float], entry: Callable[[pd.Series], Entry]
) -> Grid:
    grid = []
    for name in in_order(rows[names]) if len(rows) else []:
        at = rows[rows[names] == name].set_index("budget_fraction", drop=False)
        grid.append((label(name), [entry(at.loc[b]) if b in at.index else None for b in budgets]))
    return Grid([percent(budget) for budget in budgets], grid)


def _verdict(row: pd.Series) -> Entry:
    word = str(row["verdict"])
    if row["low"] != row["low"] and row["difference"] != row["difference"]:
        return Entry(word, (str(row["note"]),), "none")
    lines = [f"{points(row['difference'])} ({between(row['low'], row['high'])})"]
    return Entry(word, (*lines, *filter(None, [str(row["note"])])), word.replace(" ", "-"))


def _counts(verdicts: pd.DataFrame) -> list[str]:
    """How often each word was earned, and every cell that was lost."""
    counts = [(word, int((verdicts["verdict"] == word).sum())) for word in WORDS]
    said = ", ".join(f"{count} {word}" for word, count in counts if count)
    lines = [f"{len(verdicts)} comparisons: {said}."]
    lost = verdicts[verdicts["verdict"] == "lost"]
    if len(lost):
        by_rival = [
            f"{label(rival)} at {_and(map(percent, rows['budget_fraction']))}"
            for rival, rows in lost.groupby("rival", sort=False)
        ]
        lines.append(f"Lost to {'; to '.join(by_rival)}.")
    return lines


def _gaps(verdicts: pd.DataFrame, budgets: Sequence[float]) -> list[str]:
    """How far the economy is from the better of the dense models."""
    lines = []
    known = verdicts[verdicts["rival"].isin(DENSE) & verdicts["difference"].notna()]
    for budget in budgets:
        rows = known[known["budget_fraction"] == budget]
        if rows.empty:
            continue
        best = rows.loc[rows["rival_score"].idxmax()]
        lines.append(
            f"At {percent(budget)} the economy scores {best['economy']:.1f}; the better dense "
            f"model ({label(best['rival'])}) scores {best['rival_score']:.1f}: "
            f"{best['relative']:+.1f} % ({between(best['relative_low'], best['relative_high'])})."
        )
    return lines


def _volumes(table: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for name in in_order(table["method"]) if len(table) else []:
        own = table[table["method"] == name]
        whole = own[own["seed"] == ALL].iloc[0]
        seeds = own[own["seed"] != ALL]
        gain = ""
        if whole["difference"] == whole["difference"]:
            span = between(whole["difference_low"], whole["difference_high"], 3)
            gain = f"{whole['difference']:+.3f} ({span})"
        rows.append(
            {
                "method": label(name),
                "budgets": str(whole["budgets"]),
                "value": f"{whole['value']:.3f}",
                "interval": f"{whole['low']:.3f} to {whole['high']:.3f}",
                "seeds": ", ".join(f"{value:.3f}" for value in seeds["value"]),
                "gain": gain,
                "note": str(whole["note"]),
            }
        )
    return rows


def _attention(table: pd.DataFrame, budgets: Sequence[float]) -> Grid:
    """Change against dense, over all layers; a row a method and measure."""
    if table.empty:
        return Grid([], [])
    table = table[table["layer"] == ALL]
    shown = [*budgets, *(b for b in table["budget_fraction"].unique() if b not in budgets)]
    rows = []
    for measure, noun in MEASURES.items():
        grid = _grid(table[table["measure"] == measure], "method", shown, _change)
        rows += [(f"{name}: {noun}", entries) for name, entries in grid.rows]
    return Grid([percent(budget) for budget in shown], rows)


def _change(row: pd.Series) -> Entry:
    span = between(row["difference_low"], row["difference_high"], 3)
    against = f"{row['value']:.3f}, {label(row['reference'])} {row['reference_value']:.3f}"
    return Entry(f"{row['difference']:+.3f}", (f"({span})", against))


def _spend(metrics: pd.DataFrame, budgets: Sequence[float]) -> Grid:
    """The share of the dense agents' FLOPs that was really spent, beside the budget."""
    found = scores(metrics)
    return _grid(found[~found["method"].isin(DENSE)], "method", budgets, _spent)


def _spent(row: pd.Series) -> Entry:
    if row["flops"] != row["flops"]:
        return Entry("?")
    over = row["flops_high"] > row["budget_fraction"]
    beyond = (f"up to {100 * row['flops_high']:.2f} %: above the budget",) if over else ()
    return Entry(f"{100 * row['flops']:.2f} %", beyond, "lost" if over else "")


def _gone(row: tuple) -> str:
    why = f"{row.status}: {row.note}" if row.note else row.status
    return f"{label(row.method)} at {percent(row.budget_fraction)}, seed {row.seed} ({why})"


def _and(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
