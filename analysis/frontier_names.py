"""The methods of a frontier in words, in one order, each in one colour on every page."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.style import GREY, words

MARKET, DENSE = "market", ("dense", "dense_on")
_LABELS = {
    MARKET: "economy",
    "market_many": "economy, one model for all budgets",
    "dense": "dense",
    "dense_on": "dense, trained on",
    "random": "random mask",
    "magnitude": "weight magnitude",
    "michel": "head importance (Michel)",
    "kwon": "Fisher mask, training-free (Kwon)",
    "fisher_retrain": "Fisher mask, retrained",
    "l0": "L0 (CoFi-style)",
    "mixture_of_depths": "mixture of depths",
    "adaptive_modules": "adaptive modules",
}
_STYLES = {
    MARKET: ("#0072B2", "o"),
    "market_many": ("#08306b", "p"),
    "random": (GREY, "x"),
    "magnitude": ("#56B4E9", "v"),
    "michel": ("#CC79A7", "P"),
    "kwon": ("#E69F00", "^"),
    "fisher_retrain": ("#D55E00", "s"),
    "l0": ("#009E73", "D"),
    "mixture_of_depths": ("black", "X"),
    "adaptive_modules": ("#8c6bb1", "<"),
}
_OTHERS = ("#a6761d", "#1b7837", "#7a0177", "#525252")


def label(method: str) -> str:
    """A method as running text."""
    return _LABELS.get(method, words(method))


def in_order(methods: Iterable[str]) -> list[str]:
    """Each method once: the economy, dense models, rivals, others by name."""
    known = list(_LABELS)
    return sorted(set(methods), key=lambda m: (known.index(m) if m in known else len(known), m))


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, object]]:
    """Colour and marker of every method that is not dense; the economy's line is the widest."""
    names = [name for name in in_order(methods) if name not in DENSE]
    strange = [name for name in names if name not in _STYLES]
    known = _STYLES | {n: (_OTHERS[i % len(_OTHERS)], "*") for i, n in enumerate(strange)}
    styles: dict[str, dict[str, object]] = {}
    for name in names:
        colour, marker = known[name]
        # A cross has no face: its edge carries the colour.
        edge = {"markeredgecolor": colour} if marker == "x" else {}
        width = {"linewidth": 2.6, "zorder": 3} if name == MARKET else {}
        styles[name] = {"color": colour, "marker": marker, **edge, **width}
    return styles
