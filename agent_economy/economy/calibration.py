"""Calibration: policies that value agents by what they did are fitted on real batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agent_economy.errors import EconomyError
from agent_economy.executors.ablation import first_order_value, measure_ablations
from agent_economy.executors.trace import ProbeLoss, read_ahead
from agent_economy.runs.seeds import seed_for

if TYPE_CHECKING:
    from agent_economy.economy.economy import Economy
    from agent_economy.tasks.utility import Utility


def calibrate(
    economy: Economy,
    batches: Iterable[dict[str, Any]],
    loss: ProbeLoss,
    *,
    probes: int,
    utility: Utility | None,
    draws: int,
) -> None:
    """Measure every agent and fit every policy; see ``Economy.calibrate``.

    Raises:
        EconomyError: a policy learns from measured losses, and there is no utility; agents have
            left the model.
    """
    if economy.adapter.present is not None:
        raise EconomyError(
            "agents that left a compacted model cannot be measured; calibrate the economy that "
            "it was made of, then compact that"
        )
    batches = list(batches)
    learners = [policy.name for policy in economy.policies if policy.needs_ablations]
    if learners and utility is None:
        raise EconomyError(
            f"policy {learners[0]!r} learns from measured losses; say what is lost: "
            "economy.calibrate(batches, utility.loss, utility=utility)"
        )
    measured = economy.trace(batches, loss, probes=probes)
    ablations = None
    if learners and utility is not None:
        value = first_order_value(measured)
        seed = seed_for(economy.config.seed, "ablations")
        ablations = measure_ablations(
            economy.adapter, batches, utility, draws=draws, seed=seed, value=value
        )
    if economy.market.timing == "forward":
        measured, ablations = read_ahead(measured, ablations)
    for policy in economy.policies:
        policy.fit(measured, ablations)
