"""What a run measured as utility, whichever way it was measured: variants, intervals, gains."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd

from agent_economy.runs.reader import Run
from analysis.cells import STATIC_MASK
from analysis.examples import PERPLEXITY, Scored, loss_gain
from analysis.intervals import VARIANT, Interval, bootstrap, by_variant, in_run_order
from analysis.style import lower_is_better

Key = tuple
"""`VARIANT` and unit."""
BEST = "best"
"""The policy column of the best static mask."""


class Readings(ABC):
    """Utilities of a run.

    Attributes:
        gain_unit: of differences.
    """

    def __init__(self, unit: str) -> None:
        self.gain_unit = "nats a token" if unit == PERPLEXITY else unit

    @abstractmethod
    def keys(self) -> list[Key]:
        """Every variant, in the run's own order."""

    @abstractmethod
    def interval(self, key: Key) -> Interval:
        """A variant's utility."""

    @abstractmethod
    def gain(self, key: Key, rival: Key) -> Interval:
        """How much better a variant is than a rival where both met the same; paired."""

    def loss_gain(self, key: Key, rival: Key) -> Interval:
        """How much less a variant loses than a rival; not a number where no loss was kept."""
        return Interval(float("nan"), float("nan"), float("nan"), 0)

    def table(self) -> pd.DataFrame:
        """`VARIANT`, ``unit``, ``mean, low, high, n`` of every variant, budgets ascending."""
        rows = [(*key, *self.interval(key)) for key in self.keys()]
        return in_run_order(pd.DataFrame(rows, columns=[*VARIANT, "unit", *Interval._fields]))


class ByStep(Readings):
    """The mean over seeds and steps.

    Args:
        metrics: the ``metrics`` table.
    """

    def __init__(self, metrics: pd.DataFrame) -> None:
        rows = metrics[metrics["metric"] == "utility"]
        super().__init__(str(rows["unit"].iloc[0]) if len(rows) else "")
        self.found = {
            key: part.pivot(index="seed", columns="step", values="value")
            for key, part in rows.groupby([*VARIANT, "unit"], sort=False)
        }

    def keys(self) -> list[Key]:
        """See `Readings`."""
        return list(self.found)

    def interval(self, key: Key) -> Interval:
        """See `Readings`."""
        return bootstrap(self.found[key].to_numpy())

    def gain(self, key: Key, rival: Key) -> Interval:
        """Aligned by seed and step: what only one of the two met is not counted."""
        sign = -1 if lower_is_better(str(key[-1])) else 1
        return bootstrap(sign * (self.found[key] - self.found[rival]))


class ByExample(Readings):
    """A score over all examples of all seeds.

    Args:
        examples: the ``examples`` table.
        unit: of the score.
    """

    def __init__(self, examples: pd.DataFrame, unit: str) -> None:
        super().__init__(unit)
        self.found = {
            (*key, unit): Scored(unit, part) for key, part in examples.groupby(VARIANT, sort=False)
        }

    def keys(self) -> list[Key]:
        """See `Readings`."""
        return list(self.found)

    def interval(self, key: Key) -> Interval:
        """See `Readings`."""
        return self.found[key].interval

    def gain(self, key: Key, rival: Key) -> Interval:
        """See `Readings`."""
        return self.found[key].gain(self.found[rival])

    def loss_gain(self, key: Key, rival: Key) -> Interval:
        """See `Readings`."""
        return loss_gain(self.found[key].outcomes, self.found[rival].outcomes)


def readings(metrics: pd.DataFrame, examples: pd.DataFrame | None = None) -> Readings:
    """A run's utilities, the best static mask among them where the run holds any.

    Args:
        metrics: the ``metrics`` table.
        examples: the ``examples`` table of a run whose utility is no mean over batches.
    """
    if examples is None:
        return ByStep(with_best(metrics, metrics))
    unit = metrics.loc[metrics["metric"] == "utility_of_batch", "unit"].iloc[0]
    return ByExample(with_best(examples, metrics), str(unit))


def readings_of(run: Run) -> Readings | None:
    """A run's utilities; None where it measured none."""
    if "metrics" not in run.tables:
        return None
    examples = run.table("examples") if "examples" in run.tables else None
    found = readings(run.table("metrics"), examples)
    return found if found.keys() else None


def spent(metrics: pd.DataFrame) -> pd.DataFrame:
    """The share of dense agent FLOPs that every variant spent, the best static mask included."""
    return by_variant(with_best(metrics, metrics), "flops_fraction")


def best_masks(metrics: pd.DataFrame) -> pd.DataFrame:
    """At every budget and seed, the static mask of least loss on the selection texts.

    These texts are measured on by nobody, and no mask was fitted on them.
    """
    rows = metrics[metrics["metric"] == "selection_loss"]
    best = rows.loc[rows.groupby(["budget_fraction", "seed"])["value"].idxmin()]
    return best[["mechanism", "policy", "budget_fraction", "seed"]]


def with_best(table: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """A table whose rows of the best static masks stand in it once more, as policy `BEST`.

    They come before the other masks, so that they lead.
    """
    best = best_masks(metrics)
    if best.empty:
        return table
    masks = table["mechanism"] == STATIC_MASK
    chosen = table[masks].merge(best)
    return pd.concat([table[~masks], chosen.assign(policy=BEST), table[masks]], ignore_index=True)
