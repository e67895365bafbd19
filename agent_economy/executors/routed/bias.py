"""What a projection adds to every token, whoever serves it."""

from __future__ import annotations

from torch import Tensor, nn

from agent_economy.adapters.base import projection_weight
from agent_economy.compaction.absent import BiasOnly


def bias_rows(output: nn.Module, tokens: int, like: Tensor) -> Tensor:
    """What an output projection adds when nobody writes, (T, D), to be added to.

    Args:
        output: the projection, or what stands for it where nobody is left.
        tokens: ``T``.
        like: a tensor of the type and on the device of its inputs.
    """
    bias = output.bias
    if bias is None:
        absent = isinstance(output, BiasOnly)
        width = output.width if absent else projection_weight(output).shape[0]
        return like.new_zeros(tokens, width)
    assert isinstance(bias, Tensor)
    return bias.detach().expand(tokens, -1).clone()
