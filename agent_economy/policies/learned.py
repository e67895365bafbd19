"""Valuations that training makes: one per agent, or one per agent and token.

    density_tn = max(0, d_n + s_n ln(budget) + x_t w_n)      credits per GFLOP
    bid_tn     = density_tn * GFLOPs that agent n takes for a typical token

``d`` starts at a rank (of Fisher information, say), ``s`` and ``w`` at 0. ``s`` lets one model
serve many budgets: who is worth its FLOPs when they are scarce need not be when they are not. ``x``
is the layer-normalised hidden state, which the bids' gradient does not enter. While training,
logistic noise on the densities makes agents near the margin change places, so that both sides are
tried (the randomised perturbation of Berthet et al. 2020, arXiv 2002.08676).

An agent whose density fell below 0 has no gradient any more: it is out for good. Where agents may
come back (``revives``) the gradient passes at 0 in the direction that raises the density and in no
other, so that nobody sinks ever deeper (a projected gradient). Bids are the same either way.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Ablations, Features, Policy, Trace, draws


class LearnedPolicy(Policy):
    """Trainable valuations; see the module's heading.

    Args:
        seed: of the noise.
        per_token: whether agents see the token they bid for.

    Attributes:
        noise: scale of the logistic noise, credits per GFLOP; none outside training.
        revives: whether the gradient reaches agents whose density is below 0.
    """

    name = "learned"

    density_YN: Tensor
    slope_YN: Tensor
    weight_YDN: Tensor
    #: GFLOPs of each agent for a typical token
    gflops_YN: Tensor

    def __init__(self, seed: int = 0, per_token: bool = False) -> None:
        super().__init__(seed)
        self.per_token = per_token
        self.noise = 0.0
        self.revives = False

    def start(self, density_YN: Tensor, gflops_YN: Tensor, hidden: int) -> None:
        """Begin with these valuations for every token.

        Args:
            density_YN: credits per GFLOP.
            gflops_YN: what each agent takes for a typical token.
            hidden: width of the hidden states.
        """
        layers, agents = density_YN.shape
        density_YN = density_YN.float()
        self.density_YN = nn.Parameter(density_YN.clone())
        self.slope_YN = nn.Parameter(torch.zeros_like(density_YN))
        weight_YDN = density_YN.new_zeros(layers, hidden, agents)
        self.weight_YDN = nn.Parameter(weight_YDN, requires_grad=self.per_token)
        self.register_buffer("gflops_YN", gflops_YN.to(density_YN))

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Start at the rank of squared gradients, every agent as dear as another.

        ``training`` starts from real costs; this makes the policy usable like any other.
        """
        score_YN = torch.stack(
            [layer.served().gradient_STN.square().mean((0, 1)) for layer in trace]
        )
        ones_YN = torch.full_like(score_YN, 1e-3)
        self.start(ranked(score_YN), ones_YN, trace[0].hidden_TD.shape[1])

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """One matrix product where agents see the token; else the same bid for every token.

        Raises:
            EconomyError: nothing was trained or calibrated.
        """
        if not hasattr(self, "density_YN"):
            raise EconomyError(
                f"policy {self.name!r} has no valuations yet; train the economy "
                "(agent-economy train), or call economy.calibrate(batches, loss)"
            )
        layer, hidden_BLD = features.layer, features.hidden_BLD
        density_N, gflops_N = self.at_budget(features.budget_fraction)[layer], self.gflops_YN[layer]
        weight_DN = self.weight_YDN[layer]
        if len(features.agents_N) != density_N.shape[0]:
            density_N, gflops_N = density_N[features.agents_N], gflops_N[features.agents_N]
            weight_DN = weight_DN[:, features.agents_N]
        rows, length, width = hidden_BLD.shape
        density_BLn: Tensor = density_N.expand(rows, length, -1)
        if self.per_token:
            x_BLD = layer_norm(hidden_BLD.detach().to(weight_DN), (width,))
            density_BLn = density_BLn + x_BLD @ weight_DN
        density_BLn = self.shaken(density_BLn, features.step, layer)
        floored_BLn = _revived(density_BLn) if self.revives else density_BLn.clamp(min=0)
        return (floored_BLn * gflops_N).to(hidden_BLD)

    def at_budget(self, budget_fraction: float) -> Float[Tensor, "Y N"]:
        """Every agent's own density at a budget."""
        scarcity = torch.tensor(budget_fraction, dtype=torch.float64).clamp(min=1e-6).log()
        return self.density_YN + self.slope_YN * scarcity.to(self.density_YN)

    def shaken(self, density: Tensor, step: int, layer: int) -> Tensor:
        """Densities under the noise of one step, if there is any."""
        if not (self.training and self.noise > 0):
            return density
        generator = draws(self.seed, step, layer, density.device)
        u = torch.rand(density.shape, generator=generator, device=density.device)
        return density + self.noise * torch.logit(u.clamp(1e-6, 1 - 1e-6))

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A normalisation and a matrix product, where agents see the token."""
        return 8 * hidden + (2 * hidden + 4) * agents if self.per_token else 0

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take up saved tables, those that are trained as parameters."""
        for key in ("density_YN", "slope_YN", "weight_YDN"):
            if key in tables and getattr(self, key, torch.empty(0)).shape != tables[key].shape:
                trained = self.per_token or key != "weight_YDN"
                setattr(self, key, nn.Parameter(tables[key].clone(), requires_grad=trained))
        super().restore(tables)


class _Floor(torch.autograd.Function):
    """``max(0, x)``; below 0 the gradient passes where descending along it raises ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x >= 0) | (gradient[0] < 0), gradient[0], 0.0)


def _revived(x: Tensor) -> Tensor:
    floored: Tensor = _Floor.apply(x)  # type: ignore[no-untyped-call]
    return floored


def ranked(score: Tensor) -> Tensor:
    """Each score's rank as a share of the highest rank: even steps from 0 to 1."""
    order = score.flatten().argsort(stable=True).argsort().view_as(score)
    return order.double() / max(score.numel() - 1, 1)
