"""How unequally something is spread: the Gini coefficient and the Lorenz curve."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


class Lorenz(NamedTuple):
    """Points of a Lorenz curve, from (0, 0) to (1, 1).

    Attributes:
        population_share: shape (n + 1,): the poorest fraction of the population.
        value_share: shape (..., n + 1): the fraction of the total that it holds.
    """

    population_share: Tensor
    value_share: Tensor


def gini(values: Shaped[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*rest"]:
    """Gini coefficient: 0 for equal values, ``(n - 1) / n`` if one of n has everything.

    With ``x_(1) <= ... <= x_(n)``::

        G = sum_i (2 i - n - 1) x_(i) / (n sum_i x_i)

    which is half the mean absolute difference over the mean (Gini 1912). Differentiable.

    Args:
        values: non-negative, of any shape and dtype.
        dim: the dimension to measure along.

    Returns:
        `values` without `dim`; 0 where the total is 0 or there are no values.
    """
    x = _floating(values).movedim(dim, -1).sort(dim=-1).values
    n = x.shape[-1]
    weight = torch.arange(1 - n, n + 1, 2, dtype=x.dtype, device=x.device)  # 2 i - n - 1
    total = x.sum(dim=-1)
    # The inner where keeps the gradient finite at a zero total.
    spread = (x * weight).sum(dim=-1) / torch.where(total > 0, n * total, 1.0)
    return torch.where(total > 0, spread, 0.0)


def lorenz(values: Shaped[Tensor, "... n"]) -> Lorenz:
    """Lorenz curve along the last dimension: what share the poorest fraction holds.

    ``L(k / n) = sum_{i <= k} x_(i) / sum_i x_i`` for k = 0 ... n (Lorenz 1905). The area between
    it and the diagonal is G / 2, so `gini` is recovered from these points by the trapezoid rule.

    Args:
        values: non-negative, shape (..., n), n >= 1.

    Returns:
        n + 1 points per curve; the diagonal, perfect equality, where the total is 0.
    """
    x = _floating(values).sort(dim=-1).values
    share = torch.linspace(0.0, 1.0, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    held = torch.nn.functional.pad(x.cumsum(dim=-1), (1, 0))
    total = held[..., -1:]
    return Lorenz(share, torch.where(total > 0, held / torch.where(total > 0, total, 1.0), share))


def _floating(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        return values.to(torch.float64)
    return values if torch.finfo(values.dtype).bits >= 32 else values.to(torch.float32)
