"""What every study of allocation dynamics can be told."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agent_economy.config import MechanismConfig, Named, WalletConfig
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.policies import POLICIES
from agent_economy.runs.config import StrictModel

Budget = Annotated[float, Field(gt=0, le=1)]

#: A wallet that never binds: only FLOPs are scarce.
RICH = WalletConfig(endowment_credits=1e9, income=Named(name="flat"))


class LaboratoryConfig(StrictModel):
    """A frozen model, a stream of real text, agents that bid what they are worth.

    Attributes:
        model: alias, folder or hub id.
        text: where texts come from.
        steps: batches per cell, one a step.
        batch_size: rows per batch.
        max_tokens: longest row; of a longer text the first part is read.
        calibration_texts: texts that bids are calibrated on; never measured on.
        probes: draws of the calibration loss per batch.
        policy: how agents value tokens.
        block_size: FFN neurons per block agent.
        seeds: each draws its own texts, calibration and lots.
    """

    model: str = "minilm"
    text: str = "python-docs"
    steps: int = Field(24, ge=1)
    batch_size: int = Field(4, ge=1)
    max_tokens: int = Field(48, ge=4)
    calibration_texts: int = Field(24, ge=4)
    probes: int = Field(2, ge=1)
    policy: str = "taylor"
    block_size: int = Field(128, ge=1)
    seeds: list[int] = Field([0, 1, 2], min_length=1)


def check(config: LaboratoryConfig, *lists: str, mechanisms: list[Any] | None = None) -> None:
    """Refuse unknown names and values listed twice, before anything heavy is loaded.

    Args:
        config: the study.
        lists: names of fields, beside ``seeds``, that list what the study varies.
        mechanisms: names or configs of mechanisms that it uses.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    POLICIES.get(config.policy)
    for mechanism in mechanisms or []:
        named = MechanismConfig(name=mechanism) if isinstance(mechanism, str) else mechanism
        build_mechanism(named)
    for name in ("seeds", *lists):
        values = getattr(config, name)
        told = [getattr(value, "name", value) for value in values]
        if len(set(told)) < len(told):
            raise EconomyError(f"{name}: {told} repeats a value; remove it")
