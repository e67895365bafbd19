"""What a race is run over, checked before anything heavy is loaded."""

from __future__ import annotations

from pydantic import Field

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from simulations.laboratory.config import Budget, LaboratoryConfig, check


class RaceConfig(LaboratoryConfig):
    """The same model, texts, bids and supply under several markets, wallets never binding.

    Attributes:
        supply: as a fraction of dense agent FLOPs.
        markets: mechanism, scope and options of each; the others are compared with the first.
        warm_up: forwards over calibration text of a mechanism that learns.
        jitter: standard deviation of the noise on bids (a share of them) by which stability is
            tried.
    """

    steps: int = Field(4, ge=2)
    supply: Budget = 0.5
    markets: list[MechanismConfig] = Field([MechanismConfig()], min_length=1)
    warm_up: int = Field(8, ge=0)
    jitter: float = Field(0.01, gt=0, lt=0.3)


def check_race(config: RaceConfig) -> None:
    """Refuse names that nobody knows, and markets listed twice.

    Raises:
        EconomyError: one line that says what to change.
    """
    check(config, mechanisms=list(config.markets))
    named = [f"{market.name}/{market.scope}" for market in config.markets]
    if len(set(named)) < len(named):
        raise EconomyError(f"markets: {named} repeats a mechanism and scope; remove one")
    ahead = [market.name for market in config.markets if market.timing != "spot"]
    if ahead:
        raise EconomyError(f"markets: {ahead[0]!r} is not cleared on the spot; remove its timing")
    if config.supply == 1:
        raise EconomyError("supply = 1: nothing is scarce, so there is no race; lower it")
