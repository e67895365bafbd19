"""How every figure looks: fonts, colours that colour-blind readers can tell apart, token axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter

DPI = 150
WIDTH_IN = 10.0
"""The page's text width at 96 pixels per inch, so that a font's points are what a reader sees."""

RC = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",  # Comes with matplotlib: the same pixels on every machine.
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.0,
    "lines.markeredgecolor": "white",  # Keeps markers apart where lines meet.
    "lines.markeredgewidth": 0.7,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,  # A token may well be a dollar sign.
}

HEAT = "cividis"
DIFFERENCE = "RdBu_r"
GREY = "#7a7a7a"
BELOW = {"color": GREY, "marker": "", "linestyle": "--", "zorder": 1.5}
"""The line of a reference: dashed, grey, under the lines it is a reference for."""
MASK = {"color": "black", "marker": "D", "linestyle": ":"}
"""The line of the best static mask."""
HEAD, BLOCK = "#0072B2", "#E69F00"

# Okabe & Ito (2008) without black, which is for no market, and with yellow last: it is pale.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442"]
PHASE_COLOURS = [_COLOURS[i] for i in (0, 4, 2, 5, 3)]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
# Fixed, so that a mechanism or a policy wears one colour in every run that is laid beside another.
_MECHANISMS = ["uniform_price", "greedy_density", "posted_price", "token_top_k"]
_POLICIES = ["taylor", "fisher", "activation_norm", "constant"]
_SLOTS = {name: slot for known in (_MECHANISMS, _POLICIES) for slot, name in enumerate(known)}


def line_styles(names: Sequence[str]) -> dict[str, dict[str, object]]:
    """A colour and a marker for each named line, the same in every figure and every run."""
    slots = {name: _SLOTS[name] for name in names if name in _SLOTS}
    # Newcomers begin where the known names end, and take a known name's place last.
    free = [i % len(_COLOURS) for i in range(4, 4 + len(_COLOURS))]
    spare = cycle([slot for slot in free if slot not in slots.values()] or free)
    for name in dict.fromkeys(names):
        if name not in _SLOTS and name != "uniform":
            slots[name] = next(spare)
    styles: dict[str, dict[str, object]] = {}
    for place, (name, slot) in enumerate(slots.items()):
        # There are more names than colours: the second to wear one is broken, the third dotted.
        before = list(slots.values())[:place].count(slot)
        styles[name] = {"color": _COLOURS[slot], "marker": _MARKERS[slot]}
        if before:
            styles[name]["linestyle"] = ((0, (5, 1.5)), (0, (1, 1)), "-.")[(before - 1) % 3]
    if "uniform" in names:
        styles["uniform"] = {
            "color": "black",
            "marker": "x",
            "markeredgecolor": "black",
            "markeredgewidth": 1.4,
        }
    return styles


def words(name: str) -> str:
    """A member's name as running text."""
    return "uniform (no market)" if name == "uniform" else name.replace("_", " ")


def direction(unit: str) -> str:
    """A unit of utility as an axis label that says which way is better."""
    return f"{unit}\n({'lower' if lower_is_better(unit) else 'higher'} is better)"


def lower_is_better(unit: str) -> bool:
    """Whether a utility is a divergence or a perplexity rather than a score."""
    return unit.startswith(("KL", "perplexity"))


def percent(fraction: float) -> str:
    """A fraction as a percentage without needless digits."""
    return f"{100 * fraction:.4g} %"


def share(fraction: float) -> str:
    """A measured fraction as a percentage with one decimal, or a question mark if not measured."""
    return f"{100 * fraction:.1f} %" if fraction == fraction else "?"


def number(value: float) -> str:
    """Three decimals, or two digits where that would show nothing."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def printable(token: str, longest: int = 14) -> str:
    """A token as a label: byte-level space marks and control characters made visible."""
    for mark, shown in (("Ġ", "␣"), ("▁", "␣"), ("Ċ", "↵"), ("\n", "↵"), ("\t", "⇥")):
        token = token.replace(mark, shown)
    token = "".join(c if c.isprintable() else "·" for c in token) or "∅"
    return token if len(token) <= longest else token[: longest - 1] + "…"


def label_tokens(axis: Axis, tokens: Sequence[str], inches: float) -> None:
    """Write tokens along an axis, upright on x, never one over the other.

    The font shrinks to the room there is; below 5 points every second (third, ...) is written.

    Args:
        axis: ``ax.xaxis`` or ``ax.yaxis`` of a heat map with one cell per token.
        tokens: all of them, in order.
        inches: about how long the axis is on paper.
    """
    room_pt = 72 * inches / max(len(tokens), 1) * 0.86
    every = max(1, int(np.ceil(5 / room_pt)))
    shown = range(0, len(tokens), every)
    axis.set_ticks(list(shown), [printable(tokens[i]) for i in shown])
    turned = {"rotation": 90} if axis.axis_name == "x" else {}
    axis.set_tick_params(labelsize=min(9.0, room_pt * every), length=2, **turned)


def percentages(axis: Axis) -> None:
    """Write an axis of fractions as percentages, decimals only where the ticks need them."""
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: percent(fraction)))


def frame_all(ax: Axes) -> None:
    """Give a heat map its four edges back."""
    ax.spines[["top", "right"]].set_visible(True)
