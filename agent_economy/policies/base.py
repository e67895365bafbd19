"""What every bid policy is: features of a layer in, one bid per token and agent out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Features(NamedTuple):
    """What a policy sees when a layer's market opens.

    Attributes:
        layer: which layer.
        step: forwards so far.
        hidden_BLD: hidden states on entry to the layer.
        agents_N: which of the layer's agents this call bids for.
        limit_BN: credits that each agent of the layer may spend on each row.
        price: the layer's last price, broadcastable to (B, L, N); None before the first.
        position: tokens of the sequence that earlier forwards bid for.
        budget_fraction: supply over dense agent FLOPs, which a bidder for many budgets looks at.
    """

    layer: int
    step: int
    hidden_BLD: Float[Tensor, "B L D"]
    agents_N: Int[Tensor, "n"]
    limit_BN: Float[Tensor, "B N"]
    price: Tensor | None
    position: int = 0
    budget_fraction: float = 1.0


class Outcome(NamedTuple):
    """What became of a group's bids in one forward, once every layer has cleared.

    Attributes:
        layer: which layer.
        agents_N: which of the layer's agents these are.
        mask_BL: real tokens.
        bid_BLN: what they bid.
        allocation_BLN: what they were served.
        payment_BLN: what they were charged, credits.
        price: credits per GFLOP, broadcastable to (B, L, agents of the layer).
    """

    layer: int
    agents_N: Int[Tensor, "n"]
    mask_BL: Bool[Tensor, "B L"]
    bid_BLN: Float[Tensor, "B L n"]
    allocation_BLN: Float[Tensor, "B L n"]
    payment_BLN: Float[Tensor, "B L n"]
    price: Tensor


class LayerTrace(NamedTuple):
    """What one layer's agents did in a dense calibration pass over tokens ``T``.

    Attributes:
        hidden_TD: hidden states on entry.
        gradient_STN: derivative of each of ``S`` losses with respect to every gate at 1.
        norm_TN: norm of what each agent adds to the residual stream.
        read_T: tokens whose output anybody reads; None where that is all of them.
    """

    hidden_TD: Float[Tensor, "T D"]
    gradient_STN: Float[Tensor, "S T N"]
    norm_TN: Float[Tensor, "T N"]
    read_T: Bool[Tensor, "T"] | None = None

    def served(self) -> LayerTrace:
        """The tokens that agents can be asked to serve, and no others."""
        if self.read_T is None:
            return self
        read_T = self.read_T
        return LayerTrace(
            self.hidden_TD[read_T], self.gradient_STN[:, read_T], self.norm_TN[read_T]
        )


Trace = list[LayerTrace]


class Ablation(NamedTuple):
    """One whole allocation that was tried on a batch, and what it changed.

    Attributes:
        hidden: per layer, hidden states on entry in the *dense* pass (B, L, D); the same list for
            all allocations tried on one batch.
        mask_BL: real tokens.
        gates: per layer, which agents served which tokens (B, L, N); padding is True, and so is
            every token of the layer whose output nobody reads.
        change_B: each row's loss under the gates minus its dense loss.
    """

    hidden: list[Float[Tensor, "B L D"]]
    mask_BL: Bool[Tensor, "B L"]
    gates: list[Bool[Tensor, "B L N"]]
    change_B: Float[Tensor, "B"]


Ablations = list[Ablation]


class Policy(nn.Module, ABC):
    """Bids for a group of agents in one call.

    Attributes:
        name: what configs call it.

    Args:
        seed: of whatever the policy draws.
    """

    name: ClassVar[str]
    #: whether it learns from what its bids won, so that ``observe`` is called
    observes: bool = False
    #: whether ``fit`` needs measured ablations beside the trace
    needs_ablations: bool = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Learn valuations from calibration; nothing to learn by default.

        Args:
            trace: what the agents did in a dense pass.
            ablations: what whole allocations cost; given where ``needs_ablations`` says so.
        """

    @abstractmethod
    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """Credits offered for serving each token, >= 0, for ``features.agents_N``."""

    def observe(self, outcome: Outcome) -> None:
        """Learn from what a layer's bids won, after the forward; nothing to learn by default."""

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """FLOPs of bidding for one token in one layer, charged to the market."""
        return 0

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take up saved tables: those that are here in place, those learned in ``fit`` anew."""
        own = self.state_dict(keep_vars=True)
        for key, table in tables.items():
            if key in own and own[key].shape == table.shape:
                own[key].detach().copy_(table)
            else:
                self.register_buffer(key, table)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, each kept as the attribute of the same name."""
        return {key: getattr(self, key) for key in inspect.signature(type(self)).parameters}

    def extra_repr(self) -> str:
        """The policy's name, for printing."""
        return f"name={self.name!r}"


def draws(seed: int, step: int, layer: int, device: torch.device) -> torch.Generator:
    """A generator whose stream depends on the seed, the step and the layer alone."""
    # odd multipliers spread neighbouring (seed, step, layer) far apart
    spread = seed * 0x9E3779B1 + step * 0x85EBCA6B + layer * 0xC2B2AE35
    return torch.Generator(device).manual_seed(spread % (1 << 63))
