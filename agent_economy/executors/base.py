"""What every executor is: a model, a batch and a market in; an output and a receipt out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter
    from agent_economy.receipt import Receipt


class Gatekeeper(Protocol):
    """What an executor needs of a market."""

    def open(self, mask_BL: Bool[Tensor, "B L"], past: int = 0) -> None:
        """A forward begins on these real tokens, the first ``past`` of which are in a cache."""

    @property
    def needs_trace(self) -> bool:
        """Whether ``contract`` must be called with a dense pass's hidden states first."""

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Clear all layers at once."""

    def trade(
        self, layer: int, hidden_BLD: Float[Tensor, "B l D"]
    ) -> Float[Tensor, "B l N"] | None:
        """Gates of one layer for the tokens that run now, or None where everybody is served."""

    def served(self, layer: int, contribution_N: Float[Tensor, "N"]) -> None:
        """What the layer's agents were measured to add to the residual stream."""

    def close(self) -> Receipt:
        """The forward is over: settle, check, report."""


class Executor(ABC):
    """Runs a model under a market."""

    name: ClassVar[str]

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    @abstractmethod
    def run(self, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, Receipt]:
        """The model's own output for a batch, and the receipt of what ran."""
