"""What stands where a layer has lost its attention or its neurons."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Unread(nn.Module):
    """In place of a projection whose outputs nobody reads: one column of its input, no work.

    A column rather than none, as some runtimes refuse tensors of size zero.
    """

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, 1), a view."""
        return hidden_BLD[..., :1]


class BiasOnly(nn.Module):
    """In place of an output projection that nobody writes through: its bias, or zeros.

    Args:
        bias_D: the bias, None where there is none.
        width: ``D``.
    """

    def __init__(self, bias_D: nn.Parameter | None, width: int) -> None:
        super().__init__()
        self.bias = bias_D
        self.width = width

    def forward(self, unread_BL1: Tensor) -> Tensor:
        """(B, L, 1) -> (B, L, D); the values are not read."""
        shape = (*unread_BL1.shape[:-1], self.width)
        if self.bias is None:
            return unread_BL1.new_zeros(shape)
        # A copy: what a projection returns may be changed in place.
        return self.bias.expand(shape).clone()


def sliced(weight_OI: Tensor, bias_O: Tensor | None, *, trainable: bool) -> nn.Linear:
    """A linear map that holds copies of these tensors."""
    # Made empty where the weights are (a meta model stays one): nothing is drawn at random.
    with torch.device("meta"):
        linear = nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=bias_O is not None)
    linear.weight = nn.Parameter(weight_OI.detach().clone(), trainable)
    if bias_O is not None:
        linear.bias = nn.Parameter(bias_O.detach().clone(), trainable)
    return linear
