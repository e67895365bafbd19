"""What a price shock varies, checked before anything heavy is loaded."""

from __future__ import annotations

from pydantic import Field

from agent_economy.config import WalletConfig
from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel
from simulations.laboratory.config import RICH, Budget, LaboratoryConfig, check

STEADY, SHOCK = SCHEDULES = ("steady", "shock")
BEFORE, DURING, AFTER = PHASES = ("before", "during", "after")


class Arm(StrictModel):
    """One market that meets the shock.

    Attributes:
        name: what figures call it.
        mechanism: who allocates and charges.
        wallet: money; by default it never binds.
    """

    name: str
    mechanism: str = "uniform_price"
    wallet: WalletConfig = RICH


class PriceShockConfig(LaboratoryConfig):
    """Supply is plentiful, then short, then plentiful again.

    Attributes:
        supply: as a fraction of dense agent FLOPs, before and after.
        short_supply: while it is short.
        shock_step: the first step of short supply.
        recovery_step: the first step after it.
        warm_up: forwards over calibration text, at plentiful supply, of a mechanism that learns.
        arms: markets to compare. The first is the clairvoyant: it sees each batch whole, and no
            wallet binds in it.
    """

    steps: int = Field(36, ge=3)
    supply: Budget = 0.8
    short_supply: Budget = 0.3
    shock_step: int = Field(12, ge=1)
    recovery_step: int = Field(24, ge=2)
    warm_up: int = Field(6, ge=0)
    arms: list[Arm] = Field([Arm(name="clairvoyant", mechanism="greedy_density")], min_length=1)

    def phase(self, step: int) -> str:
        """Before, during or after the shock: one of `PHASES`."""
        return PHASES[(step >= self.shock_step) + (step >= self.recovery_step)]

    def late(self, step: int) -> bool:
        """Whether a step lies in the last half of its phase, where a market has had time."""
        edges = (0, self.shock_step, self.recovery_step, self.steps)
        place = PHASES.index(self.phase(step))
        return 2 * step >= edges[place] + edges[place + 1]

    def budget(self, schedule: str, step: int) -> float:
        """Supply in a step, as a fraction of dense agent FLOPs."""
        short = schedule == SHOCK and self.phase(step) == DURING
        return self.short_supply if short else self.supply


def check_shock(config: PriceShockConfig) -> None:
    """Refuse names that nobody knows, and a shock that is none.

    Raises:
        EconomyError: one line that says what to change.
    """
    check(config, "arms", mechanisms=[arm.mechanism for arm in config.arms])
    if not config.shock_step < config.recovery_step < config.steps:
        raise EconomyError(
            f"shock_step = {config.shock_step}, recovery_step = {config.recovery_step}, "
            f"steps = {config.steps}: choose them in rising order"
        )
    if config.short_supply >= config.supply:
        raise EconomyError(
            f"short_supply = {config.short_supply} is no shortage beside supply = {config.supply}; "
            "lower it"
        )
