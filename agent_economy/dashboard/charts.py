"""What is drawn, as plain dicts of options for Apache ECharts; nothing here knows a browser.

Charts are not animated, so that what is seen is what was measured, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agent_economy.dashboard.reading import Array, Reading, agent_name

Option = dict[str, Any]

#: readable on white and on black
_INK, _LINE = "#808890", "rgba(128, 136, 144, 0.25)"
#: from nothing to much, as in the figures of a report (viridis)
_HEAT = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"]
_OFF_ON = ["#e3e6ea", "#1f5fa8"]
_LAYERS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#e0a500", "#c44e52", "#8c564b", "#7f7f7f"]
_WEALTH = {"poorest tenth": "#c44e52", "median": "#808890", "richest tenth": "#1f5fa8"}

MEASURES = {"bought": "served", "bid": "credits offered", "paid": "credits paid"}
"""What the sentence's heat map can show, and its unit."""

ALL_LAYERS = "all layers"


def sentence_heat(reading: Reading, measure: str, layer: str = ALL_LAYERS) -> Option:
    """Agents by tokens: who bought which token.

    Args:
        reading: the sentence.
        measure: one of `MEASURES`.
        layer: ``"layer 3"``, or all of them, one above the other.
    """
    every = {"bought": reading.bought_YLN, "bid": reading.bid_YLN, "paid": reading.paid_YLN}
    values_YLN = every[measure]
    chosen = None if layer == ALL_LAYERS else int(layer.split()[-1])
    if chosen is not None:
        values_YLN = values_YLN[chosen : chosen + 1]
    layers, length, agents = values_YLN.shape
    values = values_YLN.transpose(0, 2, 1).reshape(layers * agents, length)
    names = reading.agent_names(chosen)
    option = _heat(
        values, names, _numbered(reading.tokens), _OFF_ON if measure == "bought" else _HEAT
    )
    option["series"][0]["name"] = MEASURES[measure]
    if measure == "bought":
        option["visualMap"] |= {"max": 1, "text": ["served", "not"]}
    # Every agent has a name in its tooltip; along the axis there is room for one in a few.
    option["yAxis"]["axisLabel"] |= {"interval": 0 if chosen is not None else agents - 1}
    if chosen is None:
        starts = [names[y * agents] for y in range(layers)]
        option["yAxis"]["axisLabel"] |= {"formatter": "{value}"}
        option["series"][0]["markLine"] = _borders(starts[1:])
    return option


def price_heat(reading: Reading) -> Option:
    """Layers by tokens: what a GFLOP cost."""
    layers = [f"layer {layer}" for layer in range(len(reading.price_YL))]
    option = _heat(reading.price_YL, layers, _numbered(reading.tokens), _HEAT)
    option["series"][0]["name"] = "credits per GFLOP"
    # The tokens stand under the heat map above.
    option["xAxis"]["axisLabel"] |= {"show": False}
    option["grid"] |= {"bottom": 12}
    return option


def agent_heat(values_YN: Array, heads: int, name: str) -> Option:
    """Layers by agents: one value of every agent."""
    layers, agents = values_YN.shape
    columns = [agent_name(0, agent, heads).removeprefix("L0 ") for agent in range(agents)]
    option = _heat(values_YN, [f"layer {layer}" for layer in range(layers)], columns, _HEAT)
    option["series"][0]["name"] = name
    option["xAxis"]["axisLabel"] |= {"rotate": 90, "interval": (agents - 1) // 12}
    return option


def price_lines(steps: Sequence[int], price_SY: Sequence[Array], at: int | None = None) -> Option:
    """The mean price of a step, layer by layer."""
    prices = np.array(list(price_SY), dtype=float).reshape(len(price_SY), -1)
    one = prices.shape[1] == 1
    series = [
        _line("all layers" if one else f"L{layer}", steps, prices[:, layer], colour)
        for layer, colour in zip(range(prices.shape[1]), _colours(), strict=False)
    ]
    return _lines(series, steps, at)


def wallet_lines(steps: Sequence[int], wallet_SQ: Sequence[Array], at: int | None = None) -> Option:
    """Credits of the poor, the middle and the rich, step by step."""
    wallets = np.array(list(wallet_SQ), dtype=float).reshape(len(wallet_SQ), len(_WEALTH))
    series = [
        _line(name, steps, wallets[:, column], colour)
        for column, (name, colour) in enumerate(_WEALTH.items())
    ]
    return _lines(series, steps, at)


def heat_cells(option: Option) -> list[tuple[int, int, float | None]]:
    """The (column, row, value) cells of a heat map, for whoever reads a chart."""
    return [tuple(cell) for cell in option["series"][0]["data"]]


# --- parts -----------------------------------------------------------------------------------


def _heat(values: Array, rows: list[str], columns: list[str], colours: list[str]) -> Option:
    """Rows from the top down; a missing value is a gap."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    # Four digits are more than a colour can say, and a third of the bytes.
    rounded = np.round(values, _decimals(high)).tolist()
    data = [
        [column, row, value if value == value else None]
        for row, line in enumerate(rounded)
        for column, value in enumerate(line)
    ]
    axis = {"type": "category", "splitArea": {"show": False}, "axisTick": {"show": False}}
    label = {"color": _INK, "fontSize": 11}
    return {
        "animation": False,
        "grid": {"left": 84, "right": 74, "top": 8, "bottom": 64},
        "tooltip": {"position": "top", "confine": True},
        "xAxis": {**axis, "data": columns, "axisLabel": label | {"rotate": 55, "interval": "auto"}},
        "yAxis": {**axis, "data": rows, "inverse": True, "axisLabel": dict(label)},
        "visualMap": {
            "min": min(low, 0.0),
            "max": high if high > low else low + 1.0,
            "calculable": False,
            "orient": "vertical",
            "right": 0,
            "top": "middle",
            "itemHeight": 90,
            "itemWidth": 12,
            "text": [in_short(high), in_short(min(low, 0.0))],
            "inRange": {"color": colours},
            "textStyle": {"color": _INK},
        },
        "series": [
            {
                "type": "heatmap",
                "data": data,
                "encode": {"x": 0, "y": 1, "value": 2, "tooltip": [0, 1, 2]},
                "dimensions": ["token", "agent", "value"],
                "progressive": 0,
                "emphasis": {"itemStyle": {"borderColor": "#000", "borderWidth": 1}},
            }
        ],
    }


def in_short(value: float) -> str:
    """Four digits, or all before the point with separators: 0.4012, 10,140."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _decimals(high: float) -> int:
    """Digits after the point that leave four in all."""
    return int(np.clip(3 - np.floor(np.log10(high)), 0, 9)) if high > 0 else 3


def _borders(rows: list[str]) -> Option:
    """Thin lines where a layer begins."""
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": _INK, "type": "solid", "width": 0.6},
        "data": [{"yAxis": row} for row in rows],
    }


def _line(name: str, steps: Sequence[int], values: Array, colour: str) -> Option:
    points = [
        [int(step), float(f"{value:.5g}") if np.isfinite(value) else None]
        for step, value in zip(steps, values.tolist(), strict=True)
    ]
    return {
        "name": name,
        "type": "line",
        "data": points,
        "showSymbol": len(points) < 3,
        "symbolSize": 5,
        "lineStyle": {"width": 1.6},
        "itemStyle": {"color": colour},
    }


def _lines(series: list[Option], steps: Sequence[int], at: int | None) -> Option:
    if at is not None and series and steps:
        series[0]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "label": {"show": False},
            "lineStyle": {"color": _INK, "type": "dashed"},
            "data": [{"xAxis": int(steps[min(at, len(steps) - 1)])}],
        }
    text = {"color": _INK}
    number = {
        "axisLabel": text,
        "nameTextStyle": text,
        "splitLine": {"lineStyle": {"color": _LINE}},
    }
    return {
        "animation": False,
        "grid": {"left": 64, "right": 16, "top": 40, "bottom": 42},
        "legend": {"top": 0, "type": "scroll", "textStyle": text, "itemHeight": 8},
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 26,
            "minInterval": 1,
            "min": "dataMin",
            "max": "dataMax",
            **number,
        },
        "yAxis": {"type": "value", "scale": True, **number},
        "series": series,
    }


def _colours() -> list[str]:
    """Enough colours for the deepest model, in a fixed order."""
    return _LAYERS * 16


def _numbered(tokens: list[str]) -> list[str]:
    """Tokens as the names of columns: a name that comes twice would be one column."""
    return [f"{place} {token}" for place, token in enumerate(tokens, start=1)]
