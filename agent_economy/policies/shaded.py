"""Shading: bid less (or more) than a token is worth, to ask what untruthful bidding gains."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Features
from agent_economy.policies.wrapping import WrappingPolicy


class ShadedPolicy(WrappingPolicy):
    """Bids ``(1 - shade)`` times the valuation.

    Args:
        seed: of the policy that values.
        policy: name of the policy that values.
        policy_options: its options.
        shade: below 1; negative to bid more than the valuation. One number, one for each agent of
            a layer, or for each layer a list of those.
    """

    name = "shaded"

    def __init__(
        self,
        seed: int = 0,
        policy: str = "taylor",
        policy_options: dict[str, Any] | None = None,
        shade: float | list[float] | list[list[float]] = 0.1,
    ) -> None:
        super().__init__(seed, policy, policy_options)
        self.shade = shade
        try:
            self._shade = torch.tensor(shade, dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise EconomyError(
                f"shade = {shade!r}: give a number, a list of one per agent, or a list of such "
                "lists, one per layer"
            ) from error
        if self._shade.dim() > 2 or not (self._shade.isfinite() & (self._shade < 1)).all():
            raise EconomyError(f"shade = {shade!r}: every shade must be a number below 1")

    def factor(self, features: Features) -> Float[Tensor, "N"]:
        """``1 - shade``, one number per agent of the layer.

        Raises:
            EconomyError: the shades are not of the layer's shape.
        """
        keep = 1 - self._shade.to(features.hidden_BLD.device)
        agents = features.limit_BN.shape[1]
        try:
            if keep.dim() == 2:
                keep = keep[features.layer]
            return keep.expand(agents)
        except (IndexError, RuntimeError) as error:
            raise EconomyError(
                f"shades of shape {tuple(self._shade.shape)} do not fit layer {features.layer} "
                f"with {agents} agents; give one per agent, for each layer or for all"
            ) from error
