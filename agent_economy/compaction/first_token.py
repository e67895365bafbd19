"""A last layer of which only the first token is read."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class Whole(NamedTuple):
    """The whole sequence, handed to the attention where its mask would stand.

    Layers pass the mask on unread, whatever the architecture, and some pass on nothing else.

    Attributes:
        hidden_BLD: what keys and values are computed from.
        mask: the attention mask, for all queries.
    """

    hidden_BLD: Tensor
    mask: Tensor | None


class FirstToken(nn.Module):
    """Runs a post-norm layer for the first token only: it attends to all, the rest is for itself.

    Args:
        layer: the layer, whose attention understands ``Whole``.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As the layer's own, of which (B, 1, D) remains."""
        whole = Whole(hidden_states, attention_mask)
        return self.layer(hidden_states[:, :1], whole, *args, **kwargs)
