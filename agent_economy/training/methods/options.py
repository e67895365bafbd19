"""What options of methods may be: checked once, by name, before anything is built of them."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from agent_economy.config import Named
from agent_economy.errors import EconomyError, unknown

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Budget = Annotated[float, Field(gt=0, le=1)]


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("not rising")
    return pair


class _Kind(NamedTuple):
    """What an option may be, for pydantic and for the user."""

    adapter: TypeAdapter[Any]
    wanted: str


_POSITIVE = _Kind(TypeAdapter(Positive), "a number above 0")
_NOT_NEGATIVE = _Kind(TypeAdapter(NotNegative), "a number, at least 0")
_SWITCH = _Kind(TypeAdapter(bool), "true or false")

#: Options that mean the same to every method that takes them.
KINDS: dict[str, _Kind] = {
    "anneal": _NOT_NEGATIVE,
    "settle": _POSITIVE,
    "rate": _POSITIVE,
    "gate_learning_rate": _POSITIVE,
    "multiplier_rate": _POSITIVE,
    "noise": _NOT_NEGATIVE,
    "penalty": _NOT_NEGATIVE,
    "price": _Kind(TypeAdapter(Positive | None), "a price above 0"),
    "slack": _Kind(
        TypeAdapter(Annotated[float, Field(ge=0, lt=1)]), "a share, at least 0, below 1"
    ),
    "temperature": _Kind(
        TypeAdapter(tuple[Positive, Positive]), "two numbers above 0, for the start and for the end"
    ),
    "budgets": _Kind(
        TypeAdapter(Annotated[tuple[Budget, Budget], AfterValidator(_rising)] | None),
        "two in (0, 1], the smaller one first",
    ),
    "straight_through": _SWITCH,
    "revive": _SWITCH,
    "train": _SWITCH,
}


def check_options(method: str, **options: Any) -> None:
    """Refuse what no method could work with.

    Args:
        method: its name, for the error.
        options: some of ``KINDS``; as TOML gives them, so a list stands for a pair.

    Raises:
        EconomyError: one of them is of another type or out of range.
    """
    for name, value in options.items():
        kind = KINDS[name]
        try:
            # Strict, or "0.1" would pass for a number here and fail as one where it is used.
            kind.adapter.validate_python(
                tuple(value) if isinstance(value, list) else value, strict=True
            )
        except ValidationError:
            raise EconomyError(f"{method}: {name} = {value!r}; give {kind.wanted}") from None


def check_method(named: Named) -> None:
    """Refuse a method that cannot be built, as far as can be told without a model.

    Raises:
        EconomyError: an unknown method, an option that it does not take, one out of range.
    """
    from agent_economy.training.methods import METHODS

    takes = list(inspect.signature(METHODS.get(named.name)).parameters)[1:]  # all but the bench
    for option in named.options:
        if option not in takes:
            raise unknown(f"option of method {named.name}", option, takes)
    check_options(
        named.name, **{name: value for name, value in named.options.items() if name in KINDS}
    )
