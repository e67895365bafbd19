"""What a frontier's predictions amount to: verdicts and hypervolumes.

All comparisons of one part of the data share one set of resamples, see ``metrics.frontier``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agent_economy.metrics.frontier import (
    MARGIN_POINTS,
    NOT_RUN,
    Draws,
    Estimate,
    Scored,
    hypervolume,
    mean_over_seeds,
    paired_scores,
    verdict,
)
from agent_economy.runs.reader import COMPLETE
from agent_economy.training.frontier.cells import (
    DENSE,
    ECONOMY,
    PERPLEXITY,
    RIVALS,
    Cell,
    in_order,
)

ALL = -1
"""The seed of a mean over seeds."""

FLOPS = "flops_fraction"
"""The measure of what a model spent, as a share of what the dense one spends."""

Family = dict[int, Scored]
VERDICT_COLUMNS = [
    *("part", "metric", "rival", "budget_fraction", "verdict", "note", "margin"),
    *("difference", "low", "high", "relative", "relative_low", "relative_high"),
    *("economy", "rival_score", "seeds", "n"),
]
HYPERVOLUME_COLUMNS = [
    *("part", "method", "seed", "budgets", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "note"),
]
_NOTHING = Estimate(np.nan, np.nan, np.nan)


class Frontier:
    """Every model's score on one part, and under every resample.

    Args:
        cells: all of them; those that are not complete count as not run.
        part: for example ``"development"``.
    """

    def __init__(self, cells: Sequence[Cell], part: str) -> None:
        self.part, self.cells = part, cells
        self.complete = [cell for cell in cells if cell.status == COMPLETE]
        rows = {cell.name: of_part(cell.predictions, part) for cell in self.complete}
        known = np.unique(np.concatenate([table["example"].to_numpy() for table in rows.values()]))
        self.draws = Draws(len(known))
        self.metric = str(self.complete[0].record["metric"])
        self.families: dict[tuple[str, float], Family] = {}
        self.flops: dict[tuple[str, float, int], float] = {}
        self.met: dict[tuple[str, float, int], tuple[int, ...]] = {}
        for cell in self.complete:
            table = rows[cell.name]
            if table.empty:
                continue
            place = np.searchsorted(known, table["example"])
            scored = self.draws.score(self.metric, table["prediction"], table["label"], place)
            self.families.setdefault((cell.method, cell.budget_fraction), {})[cell.seed] = scored
            key = (cell.method, cell.budget_fraction, cell.seed)
            measures = cell.record["parts"].get(part, {})
            self.flops[key] = float(measures.get(FLOPS, np.nan))
            self.met[key] = tuple(place)

    @property
    def budgets(self) -> list[float]:
        """Every budget that any method but a dense one has, planned or run, the widest first."""
        return sorted({c.budget_fraction for c in self.cells if c.method not in DENSE})[::-1]

    def family(self, method: str, budget: float) -> Family:
        """A method's models at a budget; a dense one's whatever the budget."""
        return self.families.get((method, self.at(method, budget)), {})

    def at(self, method: str, budget: float) -> float:
        """Where a method's models for a budget stand.

        A dense model spends everything. One that was trained on for as long as the others were at
        this budget stands at the budget; else the one for all budgets, at 1, is meant.
        """
        if method in DENSE and (method, budget) not in self.families:
            return 1.0
        return budget


def verdicts(frontier: Frontier) -> pd.DataFrame:
    """The economy against every rival at every budget, in points; `VERDICT_COLUMNS`."""
    others = {cell.method for cell in frontier.cells} - {ECONOMY}
    rivals = in_order({*RIVALS, *others})
    rows = [_verdict(frontier, rival, b) for rival in rivals for b in frontier.budgets]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _verdict(frontier: Frontier, rival: str, budget: float) -> dict[str, Any]:
    margin = MARGIN_POINTS[frontier.metric]
    ours, theirs = frontier.family(ECONOMY, budget), frontier.family(rival, budget)
    about = {
        "part": frontier.part,
        "metric": frontier.metric,
        "rival": rival,
        "budget_fraction": budget,
        "margin": margin,
    }
    found = paired_scores(frontier.draws, *_alike(frontier, rival, budget, ours, theirs))
    if found is None:
        return about | {"verdict": NOT_RUN, "note": _why_not(ours, theirs), "seeds": 0, "n": 0}
    difference = found.difference
    relative = difference if frontier.metric == PERPLEXITY else found.relative
    return about | {
        "verdict": verdict(difference, margin),
        "note": _seeds_note(len(found.seeds), _planned(frontier, budget)),
        **named(("difference", "low", "high"), difference),
        **named(("relative", "relative_low", "relative_high"), relative),
        "economy": found.ours.value,
        "rival_score": found.theirs.value,
        "seeds": len(found.seeds),
        "n": len(frontier.met[(ECONOMY, budget, found.seeds[0])]),
    }


def _alike(
    frontier: Frontier, rival: str, budget: float, ours: Family, theirs: Family
) -> tuple[Family, Family]:
    """Both families, without seeds under which the two were scored on other rows."""
    at, met = frontier.at(rival, budget), frontier.met
    same = {
        seed
        for seed in ours.keys() & theirs.keys()
        if met[(ECONOMY, budget, seed)] == met[(rival, at, seed)]
    }
    return {s: ours[s] for s in same}, {s: theirs[s] for s in same}


def _why_not(ours: Family, theirs: Family) -> str:
    if not ours:
        return "the economy was not run" if theirs else "neither was run"
    return "no seed on the same rows is common to both" if theirs else "the rival was not run"


def _planned(frontier: Frontier, budget: float) -> int:
    at = (ECONOMY, budget)
    return len({c.seed for c in frontier.cells if (c.method, c.budget_fraction) == at})


def _seeds_note(seeds: int, planned: int) -> str:
    few = f"{seeds} of {planned} seeds" if seeds < planned else ""
    return "; ".join(filter(None, [few, "one seed: examples only" if seeds == 1 else ""]))


def named(names: Sequence[str], estimate: Estimate) -> dict[str, float]:
    """An estimate as three columns."""
    return dict(zip(names, estimate, strict=True))


def hypervolumes(frontier: Frontier) -> pd.DataFrame:
    """The area under each method's frontier, per seed and over seeds; `HYPERVOLUME_COLUMNS`.

    A seed counts where the method has all of its budgets. ``difference`` is the economy's area
    minus the method's, both over the budgets and seeds that the two have in common.
    """
    methods = in_order(name for name, _ in frontier.families if name not in DENSE)
    rows = [row for method in methods for row in _volumes(frontier, method)]
    return pd.DataFrame(rows, columns=HYPERVOLUME_COLUMNS)


def _volumes(frontier: Frontier, method: str) -> Iterator[dict[str, Any]]:
    budgets = _budgets_of(frontier, method)
    found = _all_volumes(frontier, method, budgets)
    if not found:
        return
    about = {"part": frontier.part, "method": method, "budgets": _listed(budgets)}
    draws = frontier.draws
    for seed, scored in found.items():
        own = draws.estimate(scored.score, scored.drawn_R)
        yield about | {"seed": seed, "note": "", **named(("value", "low", "high"), own)}
    names = ("difference", "difference_low", "difference_high")
    common = [b for b in budgets if b in _budgets_of(frontier, ECONOMY)]
    pair = paired_scores(
        draws, _all_volumes(frontier, ECONOMY, common), _all_volumes(frontier, method, common)
    )
    difference = _NOTHING
    if pair is not None and method != ECONOMY:
        difference = Estimate(*(bound / 100 for bound in pair.difference))
    notes = [_seeds_note(len(found), len(_seeds(frontier, method)))]
    if method != ECONOMY and pair is not None and common != budgets:
        notes.append(f"difference over {_listed(common)}")
    yield about | {
        "seed": ALL,
        "note": "; ".join(filter(None, notes)),
        **named(("value", "low", "high"), _over_seeds(draws, list(found.values()))),
        **named(names, difference),
    }


def _over_seeds(draws: Draws, found: Sequence[Scored]) -> Estimate:
    value_S = np.array([scored.score for scored in found])
    return mean_over_seeds(draws, value_S, np.stack([each.drawn_R for each in found], axis=1))


def _budgets_of(frontier: Frontier, method: str) -> list[float]:
    return sorted((b for name, b in frontier.families if name == method), reverse=True)


def _seeds(frontier: Frontier, method: str) -> list[int]:
    return sorted({seed for name, _, seed in frontier.met if name == method})


def _listed(budgets: Sequence[float]) -> str:
    return ", ".join(f"{budget:g}" for budget in budgets)


def _all_volumes(frontier: Frontier, method: str, budgets: Sequence[float]) -> Family:
    seeds = _seeds(frontier, method)
    found = {seed: _volume(frontier, method, budgets, seed) for seed in seeds}
    return {seed: scored for seed, scored in found.items() if scored is not None}


def _volume(frontier: Frontier, method: str, budgets: Sequence[float], seed: int) -> Scored | None:
    """One seed's area, and that of every resample; None where a budget or its FLOPs lack."""
    scored = [frontier.families.get((method, budget), {}).get(seed) for budget in budgets]
    flops = [frontier.flops.get((method, budget, seed), np.nan) for budget in budgets]
    known = [each for each in scored if each is not None]
    if not budgets or len(known) < len(budgets) or not np.isfinite(flops).all():
        return None
    score_P = np.array([each.score for each in known])
    drawn_RP = np.stack([each.drawn_R for each in known], axis=1)
    if frontier.metric == PERPLEXITY:  # an area wants scores above 0: 1 / perplexity
        score_P, drawn_RP = np.exp(score_P), np.exp(drawn_RP)
    return Scored(float(hypervolume(flops, score_P)), hypervolume(flops, drawn_RP))


def of_part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows of a table on one part; none where the table is empty."""
    return table if table.empty else table[table["part"] == part]
