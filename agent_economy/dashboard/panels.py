"""Panels of a page; each draws itself anew after every step."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import solara
from mesa.visualization.utils import update_counter

from agent_economy.dashboard import charts

_NOTE = {"opacity": "0.7", "font-size": "13px"}


@solara.component
def SentencePanel(model: Any, sentence: Any) -> None:
    """A sentence and its heat map; typed where there is a live market, else as it was recorded."""
    update_counter.get()
    reading = model.value.reading
    layers = [charts.ALL_LAYERS, *(f"layer {layer}" for layer in range(len(reading.price_YL)))]
    layer = solara.use_reactive(layers[0])
    measure = solara.use_reactive("bought")
    with solara.Card("Who buys which token", margin=0):
        if sentence is not None:
            solara.InputText("Type a sentence, then press Enter", value=sentence)
            Numbers(model)
        with solara.Row(gap="16px", style={"align-items": "center"}):
            solara.ToggleButtonsSingle(value=measure, values=list(charts.MEASURES), dense=True)
            solara.Select("Layer", values=layers, value=layer, dense=True, style="max-width: 160px")
        height = 560 if layer.value == charts.ALL_LAYERS else 500
        Chart(charts.sentence_heat(reading, measure.value, layer.value), height, "chart-sentence")
        solara.Text("Price of a GFLOP, layer by layer", style=_NOTE)
        Chart(charts.price_heat(reading), 190, "chart-token-prices")


@solara.component
def PricesPanel(model: Any) -> None:
    """Prices over steps."""
    update_counter.get()
    seen = model.value
    prices = seen.history("price_Y")
    with solara.Card("Prices, credits per GFLOP", margin=0):
        if not prices:
            solara.Text("Press Step or Play.", style=_NOTE)
            return
        option = charts.price_lines(seen.history("step"), prices, getattr(seen, "at", None))
        Chart(option, 300, "chart-prices")


@solara.component
def WalletsPanel(model: Any) -> None:
    """Wallets over steps."""
    update_counter.get()
    seen = model.value
    wallets = seen.history("wallet_Q")
    with solara.Card("Wallets, credits", margin=0):
        if not wallets:
            solara.Text("No wallets were recorded, or there was no step yet.", style=_NOTE)
            return
        option = charts.wallet_lines(seen.history("step"), wallets, getattr(seen, "at", None))
        Chart(option, 300, "chart-wallets")


@solara.component
def AgentsPanel(model: Any) -> None:
    """Every agent now: what it holds, or how much of the last step it served."""
    update_counter.get()
    shown = solara.use_reactive("credits held")
    seen = model.value
    values = seen.wallet_YN if shown.value == "credits held" else seen.served_YN
    with solara.Card("Agents after this step", margin=0):
        solara.ToggleButtonsSingle(
            value=shown, values=["credits held", "share of tokens served"], dense=True
        )
        if values is None:
            solara.Text("Not recorded.", style=_NOTE)
            return
        Chart(charts.agent_heat(values, seen.heads, shown.value), 300, "chart-agents")


@solara.component
def ComparisonPanel(model: Any) -> None:
    """What the scarce model says of the sentence, beside the dense one."""
    update_counter.get()
    found = model.value.reading.comparison
    if found is None:
        return
    head = "".join(f"<th>{escape(name)}</th>" for name in found.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in found.rows
    )
    with solara.Card(found.title, margin=0):
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        solara.HTML(tag="table", unsafe_innerHTML=table, classes=["economy-table"])


@solara.component
def Numbers(model: Any) -> None:
    """The numbers of now, in one line."""
    update_counter.get()
    items = "".join(
        f'<div data-number="{escape(name)}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in model.value.numbers().items()
    )
    solara.HTML(tag="div", unsafe_innerHTML=items, classes=["economy-numbers"])


@solara.component
def Stacked(model: Any, panels: list[Callable[[Any], None]]) -> None:
    """Panels side by side; one above the other on a narrow screen."""
    with solara.ColumnsResponsive(default=[12], large=[12 // len(panels)]):
        for panel in panels:
            panel(model)


@solara.component
def Chart(option: charts.Option, height: int, name: str) -> None:
    """A chart that grows with its panel."""
    solara.FigureEcharts(
        option,
        attributes={"style": f"height: {height}px; width: 100%", "class": name},
        responsive=True,
    )


STYLE = """
.economy-numbers { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 4px 0 10px 0; }
.economy-numbers div { display: flex; flex-direction: column; }
.economy-numbers b { font-size: 19px; font-weight: 600; }
.economy-numbers span { font-size: 12px; opacity: 0.7; }
.economy-table { width: 100%; border-collapse: collapse; font-size: 13px; }
.economy-table th { text-align: left; font-weight: 600; padding: 4px 8px 4px 0; }
.economy-table td { padding: 4px 8px 4px 0; vertical-align: top; border-top: 1px solid #8883; }
"""
