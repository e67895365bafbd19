"""Sorting bids, fast."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_LOW_WORD = (1 << 32) - 1


def descending(x: Float[Tensor, "*rows I"]) -> Int[Tensor, "*rows I"]:
    """Positions that sort each row from high to low, ties by position.

    Non-negative float32 numbers compare as their bit patterns do, so value and position fit
    into one int64 key. NumPy sorts such keys with vector instructions, over ten times faster on
    a CPU than ``torch.sort``; on a device the keys go to its radix sort. Doubles are compared in
    float32.

    Args:
        x: finite or infinite values >= 0.
    """
    bits = x.detach().to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    # position - bits * 2**32: high values first, then low positions; the low word is the position
    key = torch.arange(x.shape[-1], device=x.device).sub(bits, alpha=1 << 32)
    if key.device.type == "cpu":
        key = torch.from_numpy(np.sort(key.numpy(), axis=-1))
    else:
        key = key.sort(dim=-1).values
    return key.bitwise_and_(_LOW_WORD)
