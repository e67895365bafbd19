"""What a study of entry and exit varies, checked before anything heavy is loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent_economy.agents.income import INCOME_RULES
from agent_economy.config import MechanismConfig, Named
from agent_economy.errors import EconomyError
from agent_economy.registry import build
from agent_economy.rivals import RIVALS
from simulations.laboratory.config import Budget, LaboratoryConfig, check


class EntryExitConfig(LaboratoryConfig):
    """Poor agents leave for good, or until lots bring some of them back.

    Attributes:
        supplies: as fractions of dense agent FLOPs.
        incomes: what agents are paid back.
        entries: ``never``, or ``lots``: every few steps some who left come back with fresh money.
        every: steps between entries.
        last_entry: nobody enters after this step: the last entrants must have time to fail.
        entrants: how many come back.
        credits: what an agent starts with, at first and on entry.
        threshold_credits: an agent below it is poor.
        patience: so many poor steps in a row, and it leaves.
        mechanism: who allocates and charges.
        judge_steps: so many last batches are for judging structures only.
        rivals: static masks of the survivors' cost to compare them with.
    """

    steps: int = Field(30, ge=3)
    supplies: list[Budget] = Field([0.5, 0.7], min_length=1)
    incomes: list[Named] = Field([Named(name="contribution")], min_length=1)
    entries: list[Literal["never", "lots"]] = Field(["never", "lots"], min_length=1)
    every: int = Field(4, ge=1)
    last_entry: int = Field(16, ge=1)
    entrants: int = Field(6, ge=1)
    credits: float = Field(300.0, gt=0)
    threshold_credits: float = Field(30.0, ge=0)
    patience: int = Field(3, ge=1)
    mechanism: MechanismConfig = MechanismConfig()
    judge_steps: int = Field(4, ge=1)
    rivals: list[str] = Field(["fisher_mask", "taylor_mask", "random_mask"], min_length=1)


def check_entry(config: EntryExitConfig) -> None:
    """Refuse names that nobody knows, and streams that leave nothing to judge by.

    Raises:
        EconomyError: one line that says what to change.
    """
    lists = ("supplies", "incomes", "entries", "rivals")
    check(config, *lists, mechanisms=[config.mechanism])
    for income in config.incomes:
        build(INCOME_RULES, income)
    for rival in config.rivals:
        RIVALS.get(rival)
    if config.judge_steps >= config.steps:
        raise EconomyError(
            f"judge_steps = {config.judge_steps} leaves none of {config.steps} steps to trade in; "
            "lower it"
        )
