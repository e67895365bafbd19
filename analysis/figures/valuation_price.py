"""The shadow price against what compute is worth to the model at the margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import fitted_between, ratio_of, rows_of, said, tidy, whiskers
from analysis.lines import legend_below, panels
from analysis.style import words

ALL_LAYERS = -1
LAYER_SLOPE = "slope_origin_of_layer"


class ValuationPrice(Figure):
    """One panel per policy: true loss per GFLOP over the price of that GFLOP."""

    name = "valuation_price"
    title = "Is the price right?"
    question = (
        "Does the model lose more where compute is dearer? Supply falls from one budget to the "
        "next, in one layer with all others full (one point a layer and step) or in all layers "
        "at once (black); x is the mean shadow price of the two budgets, y the loss per GFLOP "
        "saved. If the price were what compute is worth, points would rise along a line through "
        "zero. In the titles: rank correlation over the single layers' points. Bars: 95 % "
        "bootstrap intervals over texts."
    )
    needs = ("shadow_prices",)
    place = 16
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """Points with intervals, and one row per statistic of each policy's fit between them."""
        table = run.table("shadow_prices")
        if table.empty:
            raise Missing("the run priced nothing")
        units = run.table("metrics").query("metric == 'measured_change'")["unit"]
        return pd.DataFrame(list(_points(table.assign(text=rows_of(table))))).assign(
            unit=units.iloc[0] if len(units) else "loss"
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Small multiples; colours are layers from first (dark) to last (light)."""
        from matplotlib import colormaps

        policies = list(dict.fromkeys(data["policy"]))
        columns = min(3, len(policies))
        canvas, axes = panels((len(policies) - 1) // columns + 1, columns, 3.1)
        points = data[data["kind"] == "point"]
        layers = sorted(layer for layer in points["layer"].unique() if layer != ALL_LAYERS)
        # A legend has room for some layers only.
        named = layers if len(layers) <= 8 else layers[:: -(-len(layers) // 6)]
        for ax, policy in zip(axes.flat, policies, strict=False):
            part = points[points["policy"] == policy]
            for layer in [*layers, ALL_LAYERS]:
                line = part[part["layer"] == layer].sort_values("x")
                shade = layers.index(layer) / max(len(layers) - 1, 1) if layer in layers else 0
                style: dict[str, Any] = {
                    "color": colormaps["viridis"](0.95 * shade) if layer in layers else "black",
                    "marker": "o" if layer in layers else "D",
                    "linewidth": 1.0,
                    "label": f"layer {layer:.0f}" if layer in layers else "all layers",
                }
                if layer in layers and layer not in named:
                    style["label"] = "_"
                whiskers(ax, line["x"], line["value"], line["low"], line["high"], **style)
            ax.set_title(f"{words(policy)} bids\nrank {_rank(data, policy)}")
            ax.set_xlabel("price, credits per GFLOP")
            ax.set_xlim(left=0)
        for ax in axes[:, 0]:
            ax.set_ylabel(f"loss per GFLOP saved,\n{data['unit'].iloc[0]}")
        for ax in axes.flat[len(policies) :]:
            ax.set_visible(False)
        legend_below(canvas, axes, columns=7)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Rank and slope of every policy's prices, and how far layers are apart."""
        columns = ["value", "low", "high"]
        found = []
        for policy, part in data[data["kind"] != "point"].groupby("policy", sort=False):
            at = part[part["kind"] != LAYER_SLOPE].set_index("kind")[columns]
            layers = part[part["kind"] == LAYER_SLOPE].set_index("layer")[columns] * 1000
            least, most = layers["value"].idxmin(), layers["value"].idxmax()
            found.append(
                f"{words(policy)} prices: rank correlation with the true value of compute "
                f"{said(at.loc['rank'])} over layers and budgets; loss per 1,000 credits of price "
                f"{said(at.loc['slope_origin'] * 1000)}, R² {said(at.loc['r2_origin'])} (through "
                f"zero); from {said(layers.loc[least])} in layer {least:.0f} to "
                f"{said(layers.loc[most])} in layer {most:.0f}."
            )
        return found


def _rank(data: pd.DataFrame, policy: str) -> str:
    row = data[(data["policy"] == policy) & (data["kind"] == "rank")].iloc[0]
    return said(row[["value", "low", "high"]])


def _points(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for policy, rows in table.groupby("policy", sort=False):
        keys = ["layer", "budget_fraction"]
        for (layer, budget), part in rows.groupby(keys, sort=True):
            loss = ratio_of(part, "loss_change", "saved_gflops")
            price = ratio_of(part, "priced_credits", "saved_gflops").value
            key = {"policy": policy, "kind": "point", "layer": layer, "budget_fraction": budget}
            yield {**key, "x": price, **loss._asdict()}
        single = rows[rows["layer"] != ALL_LAYERS]
        single = single.assign(group=single.groupby(keys).ngroup())
        columns = "priced_credits", "loss_change", "saved_gflops"
        for each in tidy(fitted_between(single, *columns)):
            yield {"policy": policy, "kind": each.pop("statistic"), **each}
        for layer, part in single.groupby("layer"):
            slope = fitted_between(part, *columns).slope_origin
            yield {"policy": policy, "kind": LAYER_SLOPE, "layer": layer, **slope._asdict()}
