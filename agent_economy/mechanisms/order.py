"""Sorting bids, fast."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

#: rows up to this length are sorted by comparison, longer ones by radix
_SHORT = 256


def descending(x: Float[Tensor, "*rows I"]) -> Int[Tensor, "*rows I"]:
    """Positions that sort each row from high to low, ties by position.

    Non-negative float32 numbers compare as their bit patterns do, so a row is sorted as whole
    numbers: on a CPU with NumPy, whose vectorised sort (short rows) and 16-bit radix sort (long
    rows) are five to ten times faster than ``torch.sort``; on a device with its own radix sort.
    Doubles are compared in float32.

    Args:
        x: finite or infinite values >= 0.
    """
    # Adding 0 turns -0.0, whose sign bit is set, into 0.0.
    bits = (x.detach().to(torch.float32).contiguous() + 0.0).view(torch.int32)
    if bits.device.type == "cpu" and x.shape[-1] > _SHORT:
        return _radix(bits)
    # position - bits * 2**32: high values first, then low positions; the low word is the position
    key = torch.arange(x.shape[-1], device=x.device).sub(bits.to(torch.int64), alpha=1 << 32)
    if key.device.type == "cpu":
        key = torch.from_numpy(np.sort(key.numpy(), axis=-1))
    else:
        key = key.sort(dim=-1).values
    return key.bitwise_and_((1 << 32) - 1)


def _radix(bits: Int[Tensor, "*rows I"]) -> Int[Tensor, "*rows I"]:
    """Least significant digit first: two stable passes over 16 bits each (Knuth vol. 3, 5.2.5)."""
    # Complemented, so that an ascending sort gives descending values; the top bit is free.
    digits = torch.bitwise_not(bits).view(torch.int16).unflatten(-1, (-1, 2))
    low, high = digits[..., 0].contiguous(), digits[..., 1].contiguous()
    order = _ascending(low)
    return order.gather(-1, _ascending(high.gather(-1, order)))


def _ascending(digit: Int[Tensor, "*rows I"]) -> Int[Tensor, "*rows I"]:
    """Stable order of unsigned 16-bit digits."""
    return torch.from_numpy(np.argsort(digit.numpy().view(np.uint16), axis=-1, kind="stable"))
