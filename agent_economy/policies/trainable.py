"""Policies that training makes: they start from the sizes of a model and learn by gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Ablations, Features, Policy, Trace


class TrainablePolicy(Policy):
    """Bids a density that is read off the hidden state, times what an agent takes of FLOPs.

    Members say what the tables hold at the start and how a layer's logits become densities.

    Args:
        seed: of whatever the tables start from.

    Attributes:
        trained: names of the tables that are parameters.
    """

    trained: ClassVar[tuple[str, ...]]
    #: GFLOPs of each agent for a typical token
    gflops_YN: Tensor

    def start(self, hidden: int, gflops_YN: Float[Tensor, "Y N"], heads: int) -> None:
        """Make the tables; nothing needs to be calibrated.

        Args:
            hidden: width of the hidden states.
            gflops_YN: what each agent takes for a typical token.
            heads: how many of a layer's agents are heads; they come first.

        Raises:
            EconomyError: a layer has fewer agents than that.
        """
        if not 0 <= heads <= gflops_YN.shape[1]:
            raise EconomyError(
                f"policy {self.name!r}: {heads} heads among {gflops_YN.shape[1]} agents; "
                "give 0 to all of them"
            )
        gflops_YN = gflops_YN.float()
        self.register_buffer("gflops_YN", gflops_YN)
        for key, table in self._tables(hidden, gflops_YN, heads).items():
            setattr(self, key, nn.Parameter(table.to(gflops_YN)))

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Start anew at the sizes of a trace, every agent as dear as another.

        ``training`` starts from real costs; this makes the policy usable like any other.
        """
        hidden_TD, norm_TN = trace[0].hidden_TD, trace[0].norm_TN
        ones_YN = torch.ones(len(trace), norm_TN.shape[1], device=hidden_TD.device)
        self.start(hidden_TD.shape[1], ones_YN, self._fitted_heads())

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take up saved tables, those that are trained as parameters."""
        for key in self.trained:
            if key in tables and getattr(self, key, torch.empty(0)).shape != tables[key].shape:
                setattr(self, key, nn.Parameter(tables[key].clone()))
        super().restore(tables)

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """Credits: bid density times the agent's GFLOPs per token.

        Raises:
            EconomyError: nothing was trained or calibrated.
        """
        if not hasattr(self, "gflops_YN"):
            raise EconomyError(
                f"policy {self.name!r} has no tables yet; train the economy "
                "(agent-economy train), or call economy.calibrate(batches, loss)"
            )
        hidden_BLD, gflops_N = features.hidden_BLD, self.gflops_YN[features.layer]
        x_BLD = layer_norm(hidden_BLD, hidden_BLD.shape[-1:]).to(gflops_N)
        bid_BLN = self._density(x_BLD, features.layer) * gflops_N
        if len(features.agents_N) != len(gflops_N):
            bid_BLN = bid_BLN[..., features.agents_N]
        return bid_BLN.to(hidden_BLD)

    def _fitted_heads(self) -> int:
        """Heads of a layer, where nothing but a trace is known."""
        return 0

    @abstractmethod
    def _tables(self, hidden: int, gflops_YN: Tensor, heads: int) -> dict[str, Tensor]:
        """The trained tables as they begin."""

    @abstractmethod
    def _density(self, x_BLD: Tensor, layer: int) -> Tensor:
        """Densities that broadcast to (B, L, N), >= 0, from the layer-normalised hidden states."""
