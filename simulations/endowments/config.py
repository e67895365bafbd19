"""What a study of endowments varies, checked before anything heavy is loaded."""

from __future__ import annotations

import re

from pydantic import Field

from agent_economy.agents.income import INCOME_RULES
from agent_economy.config import MechanismConfig, Named
from agent_economy.errors import EconomyError
from agent_economy.registry import build
from simulations.laboratory.config import Budget, LaboratoryConfig, check
from simulations.laboratory.shares import RULES


class EndowmentsConfig(LaboratoryConfig):
    """The same sum of credits, dealt out in several ways.

    Attributes:
        supply: as a fraction of dense agent FLOPs.
        mean_credits: what an agent starts with on average.
        endowments: ``equal``, ``cost``, ``value``, or ``pareto ALPHA`` with ALPHA above 1.
        incomes: what agents are paid back.
        mechanism: who allocates and charges.
    """

    steps: int = Field(12, ge=2)
    supply: Budget = 0.5
    mean_credits: float = Field(300.0, gt=0)
    endowments: list[str] = Field(["equal", "cost", "value", "pareto 1.5"], min_length=1)
    incomes: list[Named] = Field([Named(name="revenue")], min_length=1)
    mechanism: MechanismConfig = MechanismConfig()


def pareto_index(endowment: str) -> float | None:
    """The tail index of a Pareto endowment; None of another."""
    match = re.fullmatch(r"pareto (\d+(?:\.\d+)?)", endowment)
    return float(match[1]) if match else None


def check_endowments(config: EndowmentsConfig) -> None:
    """Refuse names that nobody knows.

    Raises:
        EconomyError: one line that says what to change.
    """
    check(config, "endowments", "incomes", mechanisms=[config.mechanism])
    for income in config.incomes:
        build(INCOME_RULES, income)
    for endowment in config.endowments:
        alpha = pareto_index(endowment)
        if endowment not in RULES and (alpha is None or alpha <= 1):
            raise EconomyError(
                f"endowments: {endowment!r} is unknown; choose {', '.join(RULES)} or 'pareto "
                "ALPHA' with ALPHA above 1"
            )
