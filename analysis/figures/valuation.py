"""Whether bids predict what whole allocations cost: R2, slope, rank and bias of every policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import FAMILIES, MARKET, fitted, rows_of, said, tidy, transferred, within
from analysis.lines import legend_below, panels
from analysis.style import words

PREDICTED, MEASURED = "predicted_credits", "measured_change"
EQUAL = "equal_flops"
_COLOURS = {family: colour for family, (_, colour, _) in FAMILIES.items()} | {EQUAL: "black"}
_LABELS = {family: label for family, (label, _, _) in FAMILIES.items()} | {
    EQUAL: "all of everybody's"
}


class Valuation(Figure):
    """Three panels, one row per policy."""

    name = "valuation"
    title = "Is the market's value real?"
    question = (
        "Do bids say what the model loses without the agents that made them? Predicted: credits "
        "bid for the (token, agent) pairs that an allocation closes. Measured: how far the frozen "
        "model moves when they are closed together. Left: variance explained by a line through "
        "zero, over all budgets; closing more always costs more, so even equal bids (constant) "
        "score. Middle: the same at equal FLOPs, over what all policies' markets and chance made, "
        "each text's mean at each budget taken off both sides: whether bids know which of these "
        "costs a text least. Right: loss per credit in what the market made, over that in "
        "random allocations; above 1 the market picked what it had undervalued. Bars: 95 % "
        "bootstrap intervals over texts."
    )
    needs = ("allocations_measured", "allocations_judged")
    place = 10
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """Every statistic of every policy and family, with intervals."""
        table = run.table("allocations_measured")
        if table.empty:
            raise Missing("the run measured no allocation")
        judged = run.table("allocations_judged")
        found = _statistics(table.assign(text=rows_of(table)), judged.assign(text=rows_of(judged)))
        return pd.DataFrame(list(found))

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Dots with intervals, their values beside them."""
        policies = list(dict.fromkeys(data["policy"]))
        canvas, axes = panels(rows=1, columns=3, height_in=0.8 + 0.62 * len(policies))
        shown = (
            ("r2_origin", "R² of a line through zero", list(FAMILIES)),
            ("r2", "R² at equal FLOPs", [EQUAL]),
            ("bias", "loss per credit,\nmarket over random", list(FAMILIES)[1:]),
        )
        for ax, (statistic, label, families) in zip(axes.flat, shown, strict=True):
            for place, family in enumerate(families):
                part = data[(data["statistic"] == statistic) & (data["family"] == family)]
                part = part.set_index("policy").reindex(policies)
                y = pd.Series(range(len(policies)), part.index, dtype=float)
                y += 0.26 * (place - (len(families) - 1) / 2)
                error = [part["value"] - part["low"], part["high"] - part["value"]]
                colour = _COLOURS[family]
                ax.errorbar(
                    part["value"],
                    y,
                    xerr=[each.clip(lower=0) for each in error],
                    fmt="o",
                    color=colour,
                    elinewidth=1.4,
                    label=_LABELS[family],
                )
                for value, height in zip(part["value"], y, strict=True):
                    if value == value:
                        note = {"textcoords": "offset points", "fontsize": 7.5, "color": colour}
                        ax.annotate(f"{value:.2f}", (value, height), (0, 4), ha="center", **note)
            ax.set_yticks(range(len(policies)), [words(policy) for policy in policies])
            ax.set_ylim(len(policies) - 0.4, -0.6)
            ax.set_xlabel(label)
            ax.margins(x=0.12)
        axes[0, 2].axvline(1.0, color="#7a7a7a", linestyle="--", linewidth=1)
        for ax in axes.flat[1:]:
            ax.tick_params(labelleft=False)
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The best policy at equal FLOPs, and how each one's selection fares."""
        at = data.set_index(["policy", "family", "statistic"])[["value", "low", "high"]]
        equal = at.xs((EQUAL, "r2"), level=("family", "statistic")).dropna(subset="value")
        if equal.empty:
            return []
        best = equal["value"].idxmax()
        found = [
            f"At equal FLOPs the bids that explain most are {words(best)}: R² "
            f"{said(equal.loc[best])}; a line through zero over all budgets explains "
            f"{said(at.loc[(best, MARKET, 'r2_origin')])} of what its market's allocations cost."
        ]
        if best != "constant" and equal["value"].get("constant", float("nan")) >= 0:
            found.append(f"Counting closed pairs alone (constant): {said(equal.loc['constant'])}.")
        curses = at.xs(("random_tokens", "bias"), level=("family", "statistic"))
        cursed = [policy for policy, row in curses.iterrows() if row["low"] > 1]
        for policy in cursed:
            found.append(
                f"{words(policy)} bids: a credit closed by the market costs "
                f"{said(curses.loc[policy])} times what a random one does."
            )
        return found


def _statistics(table: pd.DataFrame, judged: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for policy, rows in table.groupby("policy", sort=False):
        families = dict(iter(rows.groupby("family", sort=False)))
        for family, part in families.items():
            for each in tidy(fitted(part, PREDICTED, MEASURED)):
                yield {"policy": policy, "family": family, **each}
        # The same allocations for every policy: all markets', and those drawn by lot.
        common = [rows[rows["family"] != MARKET], judged[judged["judge"] == policy]]
        everything = pd.concat(common, ignore_index=True)
        centred = within(everything, ["budget_fraction", "text"], [PREDICTED, MEASURED])
        for each in tidy(fitted(centred, PREDICTED, MEASURED)):
            yield {"policy": policy, "family": EQUAL, **each}
        for family, part in families.items():
            if family == MARKET or MARKET not in families:
                continue
            moved = transferred(part, families[MARKET], PREDICTED, MEASURED)
            for name, estimate in (("bias", moved.bias), ("r2_transferred", moved.r2)):
                key = {"policy": policy, "family": family, "statistic": name}
                yield {**key, **estimate._asdict(), "n": len(families[MARKET])}
