"""Numbers that a user may give: credits and shares."""

from __future__ import annotations

import math

from agent_economy.errors import EconomyError


def credits_amount(what: str, value: float) -> float:
    """The value, if it is an amount of credits: finite and at least 0.

    Args:
        what: what it is, for the error.
        value: what the user gave.

    Raises:
        EconomyError: it is negative, infinite or NaN.
    """
    if not (math.isfinite(value) and value >= 0.0):
        raise EconomyError(f"{what} is {value}; give a finite number of credits, at least 0")
    return float(value)


def share(what: str, value: float) -> float:
    """The value, if it is a share: in [0, 1].

    Args:
        what: what it is, for the error.
        value: what the user gave.

    Raises:
        EconomyError: it lies outside [0, 1] or is NaN.
    """
    if not 0.0 <= value <= 1.0:
        raise EconomyError(f"{what} is {value}; give a share in [0, 1]")
    return float(value)
