"""Valuations measured on a calibration batch and read off the hidden state ever after.

A valuation such as a Taylor score needs a backward pass, which nobody can afford while serving.
So it is measured once, for every (token, agent) of a calibration batch, and a ridge regression
from the layer's normalised hidden state predicts it for new tokens: one (D, N) matrix a layer.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Ablations, Features, LayerTrace, Policy, Trace

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


class ReadoutPolicy(Policy):
    """Bids ``max(floor * mean_n, x W + b)`` credits, ``x`` the normalised hidden state.

    Valuations are scaled so that the mean over tokens, agents and layers is one credit. The ridge
    strength is chosen per layer on a held-out quarter of the calibration tokens.

    Args:
        seed: unused.
        per_token: predict for each token; otherwise every agent bids its mean.
        floor: least bid, as a share of the agent's mean valuation.
    """

    weight_YDN: Tensor
    intercept_YN: Tensor
    floor_YN: Tensor

    def __init__(self, seed: int = 0, per_token: bool = True, floor: float = 0.05) -> None:
        super().__init__(seed)
        self.per_token, self.floor = per_token, floor
        #: held-out R2 of each layer's regression, after ``fit``
        self.r2: list[float] = []

    @abstractmethod
    def valuation(self, layer: LayerTrace) -> Float[Tensor, "T N"]:
        """What serving each token was worth, in any unit, >= 0."""

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Measure valuations, regress them on hidden states, scale the mean to one credit."""
        trace = [layer.served() for layer in trace]
        values = [self.valuation(layer).double() for layer in trace]
        scale = mean_value(self.name, values)
        fitted = [
            ridge(layer.hidden_TD, value / scale) if self.per_token else None
            for layer, value in zip(trace, values, strict=True)
        ]
        hidden = trace[0].hidden_TD
        means = torch.stack([(value / scale).mean(0) for value in values])
        floors = means * self.floor
        weights = torch.zeros(len(trace), hidden.shape[1], means.shape[1], dtype=torch.float64)
        self.r2 = []
        for layer, fit in enumerate(fitted):
            if fit is not None:
                weights[layer], centre_D, r2 = fit
                self.r2.append(r2)
                means[layer] -= centre_D @ weights[layer]
        kind = hidden if hidden.dtype == torch.float64 else hidden.float()
        self.register_buffer("weight_YDN", weights.to(kind))
        self.register_buffer("intercept_YN", means.to(kind))
        self.register_buffer("floor_YN", floors.to(kind))

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """One matrix product for the whole group.

        Raises:
            EconomyError: the policy is not calibrated.
        """
        if not hasattr(self, "weight_YDN"):
            raise EconomyError(
                f"policy {self.name!r} is not calibrated; call economy.calibrate(batches, loss)"
            )
        layer, hidden_BLD = features.layer, features.hidden_BLD
        weight_DN = self.weight_YDN[layer]
        intercept_N, floor_N = self.intercept_YN[layer], self.floor_YN[layer]
        if len(features.agents_N) != weight_DN.shape[1]:
            weight_DN = weight_DN[:, features.agents_N]
            intercept_N, floor_N = intercept_N[features.agents_N], floor_N[features.agents_N]
        x_BLD = layer_norm(hidden_BLD, hidden_BLD.shape[-1:])
        rows, length, width = x_BLD.shape
        bid = torch.addmm(intercept_N, x_BLD.reshape(-1, width).to(weight_DN), weight_DN)
        return torch.maximum(bid, floor_N).view(rows, length, -1).to(hidden_BLD)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A normalisation and a matrix product."""
        return 8 * hidden + 2 * hidden * agents


def mean_value(name: str, values: list[Tensor]) -> Tensor:
    """Mean over layers, tokens and agents of what a policy measured.

    Raises:
        EconomyError: it measured nothing, or something that is no number.
    """
    scale = torch.stack([value.mean() for value in values]).mean()
    if not scale.isfinite():
        raise EconomyError(
            f"policy {name!r} measured values that are not numbers; "
            "check the calibration loss for NaN or infinity"
        )
    if not scale > 0:
        raise EconomyError(
            f"policy {name!r} measured no value on the calibration batch; "
            "calibrate on more text, or on a loss that depends on the output"
        )
    return scale


def ridge(hidden_TD: Tensor, value_TN: Tensor) -> tuple[Tensor, Tensor, float]:
    """Weights (D, N), the centre of the features (D,), and the held-out R2."""
    x_TD = layer_norm(hidden_TD, hidden_TD.shape[-1:]).double()
    held = torch.arange(len(x_TD), device=x_TD.device) % 4 == 3
    centre_D, mean_N = x_TD[~held].mean(0), value_TN[~held].mean(0)
    x, y = x_TD[~held] - centre_D, value_TN[~held] - mean_N
    scale, basis = torch.linalg.eigh(x.T @ x / len(x))
    moment = basis.T @ (x.T @ y) / len(x)
    test_x, test_y = x_TD[held] - centre_D, value_TN[held] - mean_N
    total = test_y.square().sum().clamp(min=1e-30)
    best = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, device=x.device), 0.0
    for ridge in _RIDGES:
        weight_DN = basis @ (moment / (scale.clamp(min=0) + ridge * scale.mean())[:, None])
        r2 = 1 - float((test_y - test_x @ weight_DN).square().sum() / total)
        if r2 > best[1]:
            best = weight_DN, r2
    return best[0], centre_D, best[1]
