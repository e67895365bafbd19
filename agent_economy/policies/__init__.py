"""How agents bid: one file each."""

from __future__ import annotations

from agent_economy.policies.base import (
    Ablation,
    Ablations,
    Features,
    LayerTrace,
    Outcome,
    Policy,
    Trace,
)
from agent_economy.registry import Registry

POLICIES = Registry("policy", "agent_economy.policies", Policy)  # type: ignore[type-abstract]

__all__ = [
    "POLICIES",
    "Ablation",
    "Ablations",
    "Features",
    "LayerTrace",
    "Outcome",
    "Policy",
    "Trace",
]
