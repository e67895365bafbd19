"""What a study of permits varies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulations.laboratory.config import Budget, LaboratoryConfig

Rule = Literal["equal", "cost", "value", "auction"]


class CapAndTradeConfig(LaboratoryConfig):
    """Supply is handed to the agents as permits, or sold at auction for comparison.

    Attributes:
        supply: permits, as a fraction of dense agent FLOPs.
        rules: who gets them: ``equal`` parts; in proportion to ``cost`` (what an agent would use:
            grandfathering) or to ``value`` (what it bids on calibration text); or an ``auction``
            whose proceeds are paid back in equal parts, without permits.
        purses: ``rich``: credits never bind; ``thin``: they do.
        thin_credits: what every agent starts with under a thin purse.
        matching: which seller serves which buyer: by ``lot``, or the ``largest`` first.
        windows: parts of the stream whose payments make one network each.
        samples: random networks that triads are compared with.
    """

    steps: int = Field(16, ge=2)
    supply: Budget = 0.5
    rules: list[Rule] = Field(["equal", "cost", "value", "auction"], min_length=1)
    purses: list[Literal["rich", "thin"]] = Field(["rich", "thin"], min_length=1)
    thin_credits: float = Field(150.0, gt=0)
    matching: Literal["lot", "largest"] = "lot"
    windows: int = Field(2, ge=1)
    samples: int = Field(60, ge=2)
