"""CoFi-style pruning: hard-concrete gates on agents and a Lagrangian on expected FLOPs.

Louizos et al. 2018 (arXiv 1712.01312) give the gates; Wang et al. 2020 and Xia et al. 2022 (arXiv
2204.00408) the Lagrangian with a target that is warmed up, the distillation, and the last part of
the training with the structure fixed. Gates sit on heads and neuron blocks, the economy's own
agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from agent_economy.rivals.folding import fold_scales
from agent_economy.rivals.l0 import L0Gates
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import Method, gated, planned_economy
from agent_economy.training.methods.options import check_options
from agent_economy.training.schedule import annealed

if TYPE_CHECKING:
    from agent_economy.economy import Economy


class L0Method(Method):
    """See the module's heading.

    Args:
        bench: what all methods start from.
        anneal: share of the training over which the target shrinks to the budget.
        settle: share of the training after which the structure is fixed.
        gate_learning_rate: of log-odds (CoFi: 0.01 to 0.1).
        multiplier_rate: of the multipliers; at the gates' own rate they overshoot the target.
    """

    name = "l0"

    def __init__(
        self,
        bench: Bench,
        anneal: float = 0.35,
        settle: float = 0.5,
        gate_learning_rate: float = 0.1,
        multiplier_rate: float = 0.02,
    ) -> None:
        super().__init__(bench)
        check_options(
            self.name,
            anneal=anneal,
            settle=settle,
            gate_learning_rate=gate_learning_rate,
            multiplier_rate=multiplier_rate,
        )
        bench.check_budget(bench.settings.budget)
        self.anneal, self.settle_at, self._rate = anneal, settle, gate_learning_rate
        self._multiplier_rate = multiplier_rate
        self.gates = L0Gates(bench.flops_YN, bench.adapter.shape.heads)
        self.target = 1.0

    def begin(self, progress: float, step: int) -> None:
        """The target of the step; samples are drawn from torch's own generator."""
        self.target = annealed(self.bench.settings.budget, progress, self.anneal)

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """Under a sample of the gates."""
        return gated(self.bench, self.gates.gates_YN(), inputs), self.gates.flops_fraction()

    def penalty(self, flops_fraction: Tensor | None) -> Tensor | float:
        """The Lagrangian; multipliers ascend it."""
        return self.gates.lagrangian(self.target)

    def groups(self) -> list[dict[str, Any]]:
        """Log-odds descend, multipliers ascend."""
        return [
            {
                "params": list(self.gates.descending()),
                "lr": self._rate,
                "weight_decay": 0.0,
            },
            {
                "params": list(self.gates.ascending()),
                "lr": self._multiplier_rate,
                "weight_decay": 0.0,
                "maximize": True,
            },
        ]

    def settle(self) -> Tensor:
        """The likeliest agents within the budget; what their gates had come to becomes weights."""
        bench = self.bench
        plan_YN = self.gates.plan_YN(bench.allowance(bench.settings.budget))
        fold_scales(bench.adapter, self.gates.scale_YN(plan_YN.to(bench.device)))
        return bench.checked(plan_YN).to(bench.device)

    def report(self) -> dict[str, float | Tensor]:
        """The target; expected spend is what ``run`` gave."""
        return {"budget": self.target}

    def economy(self) -> Economy:
        """The plan at its budget."""
        return planned_economy(self.bench, self.plan_YN, self.bench.settings.budget)
