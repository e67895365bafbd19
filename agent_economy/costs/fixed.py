"""FLOPs that no agent can save: pooler, task head, language-model head."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class FixedFlops(NamedTuple):
    """FLOPs outside the layers; embeddings are look-ups and cost none.

    Attributes:
        per_row: maps applied once a sequence (pooler, classifier).
        per_token: maps applied to every token (language-model head).
    """

    per_row: int
    per_token: int

    def total(self, rows: int, tokens: int) -> int:
        """FLOPs of so many sequences with so many tokens in all."""
        return self.per_row * rows + self.per_token * tokens


def fixed_flops(outside: list[nn.Module], positions: list[int], probe_tokens: int) -> FixedFlops:
    """``2 * in * out`` a position for every linear map outside the layers.

    Args:
        outside: linear maps (``Linear`` or ``Conv1D``) that are no agent's.
        positions: positions that each was seen to map in a probe of one row.
        probe_tokens: tokens of that row, more than one.
    """
    per_row = per_token = 0
    for module, seen in zip(outside, positions, strict=True):
        weight = module.weight
        flops = 2 * int(weight.numel())  # type: ignore[operator]
        if seen == probe_tokens:
            per_token += flops
        else:
            per_row += flops * seen
    return FixedFlops(per_row, per_token)
