"""Price heat map: where compute was dear."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import CELL, describe, first, showcase
from analysis.figures.base import Figure, Missing
from analysis.heat import MISSING_COLOUR, layer_names, wide
from analysis.style import HEAT, WIDTH_IN, frame_all, label_tokens


class Prices(Figure):
    """The price of a GFLOP in each layer for each token of the showcase sentence."""

    name = "prices"
    title = "Prices"
    question = (
        "Where is compute dear? Each cell is what a GFLOP cost one token in one layer; a bright "
        "column is a token that every layer wants to work on, a bright row a crowded layer. Under "
        "sequence scope all tokens of a market pay one price. Square-root colour scale."
    )
    needs = ("prices",)
    place = 20

    def data(self, run: Run) -> pd.DataFrame:
        """Layer x token prices of one sentence in a scarce cell, token scope if there is one."""
        prices = run.table("prices")
        prices = showcase(prices[prices["token"] >= 0], scope="token")
        for column in ("step", "row"):
            prices = first(prices, column)
        if prices["price_per_gflop"].isna().all():
            raise Missing("the mechanism posts no price")
        columns = [*CELL, "step", "row", "layer", "token", "token_text", "price_per_gflop"]
        return prices[columns].sort_values(["layer", "token"], ignore_index=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Tokens along x, layers upwards from the first."""
        price_YL, tokens = wide(data, "layer", "token", "price_per_gflop")
        canvas = Canvas(
            figsize=(WIDTH_IN, 2.0 + 0.26 * max(len(price_YL), 4)), layout="constrained"
        )
        ax = canvas.subplots()
        ax.set_facecolor(MISSING_COLOUR)
        # A square root from zero: one very dear token must not hide the differences below it.
        norm = PowerNorm(0.5, vmin=0, vmax=max(float(price_YL.max(axis=None)), 1e-9))
        image = ax.imshow(price_YL, aspect="auto", cmap=HEAT, origin="lower", norm=norm)
        label_tokens(ax.xaxis, tokens, inches=0.8 * WIDTH_IN)
        layers = list(price_YL.index)
        label_tokens(ax.yaxis, layer_names(layers), inches=0.26 * max(len(layers), 4))
        ax.set_title(describe(data.iloc[0]))
        ax.set_xlabel("token")
        ax.set_ylabel("layer")
        frame_all(ax)
        canvas.colorbar(image, ax=ax, pad=0.01, label="price, credits per GFLOP")
        return canvas
