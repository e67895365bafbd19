"""What an audit measures."""

from __future__ import annotations

from pydantic import Field

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.policies import POLICIES
from simulations.laboratory.config import Budget, LaboratoryConfig, check


class AuditConfig(LaboratoryConfig):
    """Every agent's worth, measured from outside and by the market; one step is one batch.

    Attributes:
        supply: of the market, as a fraction of dense agent FLOPs.
        mechanism: who allocates and charges.
        policies: whose bids the market runs on, one market each.
        rounds: random orders per text, each gone through forwards and backwards.
    """

    steps: int = Field(1, ge=1)
    batch_size: int = Field(8, ge=2)
    max_tokens: int = Field(32, ge=4)
    supply: Budget = 0.5
    mechanism: MechanismConfig = MechanismConfig()
    policies: list[str] = Field(["taylor", "fisher"], min_length=1)
    rounds: int = Field(2, ge=1)


def check_audit(config: AuditConfig) -> None:
    """Refuse names that nobody knows, and a market that everybody is served in.

    Raises:
        EconomyError: one line that says what to change.
    """
    check(config, "policies", mechanisms=[config.mechanism])
    for policy in config.policies:
        POLICIES.get(policy)
    if config.supply == 1:
        raise EconomyError("supply = 1: nothing is scarce, so no market is run; lower it")
