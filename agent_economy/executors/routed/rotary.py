"""Rotary positions of queries and keys."""

from __future__ import annotations

from torch import Tensor

#: cosine and sine
Rotary = tuple[Tensor, Tensor]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions."""
    from transformers.models.llama.modeling_llama import rotate_half

    rotated: Tensor = x * cos + rotate_half(x) * sin
    return rotated
