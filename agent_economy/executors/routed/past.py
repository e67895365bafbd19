"""Keys and values of a cached sequence, for heads that open late."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

#: (hidden states (T, D), rotary (T, K) twice or None, unit) -> keys and values (T, K)
Project = Callable[[Tensor, tuple[Tensor, Tensor] | None, int], tuple[Tensor, Tensor]]


class Past:
    """One layer's memory of a sequence: what keys are computed from, and whose are computed.

    Attributes:
        open_BU: units whose keys and values the cache holds for the whole sequence so far.
    """

    def __init__(self) -> None:
        self.open_BU: Tensor | None = None
        self._hidden: list[Tensor] = []
        self._rotary: list[tuple[Tensor, Tensor]] = []

    def extend(self, hidden_BlD: Tensor, rotary: tuple[Tensor, Tensor] | None) -> None:
        """Remember the tokens that run now.

        Args:
            hidden_BlD: what their keys and values are computed from, zeros in padding.
            rotary: (B, l, K) cosine and sine of their positions.
        """
        self._hidden.append(hidden_BlD)
        if rotary is not None:
            self._rotary.append(rotary)

    def fill(
        self, keys_BULK: Tensor, values_BULK: Tensor, late_BU: Bool[Tensor, "B U"], project: Project
    ) -> None:
        """Compute earlier tokens' keys and values of units that open now, in place.

        Args:
            keys_BULK: the cache's, earlier tokens first.
            values_BULK: the same.
            late_BU: units that open now, by row.
            project: the layer's projections.
        """
        hidden_BLD = torch.cat(self._hidden, 1)
        past = hidden_BLD.shape[1]
        rotary = None
        if self._rotary:
            rotary = (
                torch.cat([cos for cos, _ in self._rotary], 1),
                torch.cat([sin for _, sin in self._rotary], 1),
            )
        for unit in late_BU.any(0).nonzero()[:, 0].tolist():
            row_R = late_BU[:, unit].nonzero()[:, 0]
            own = None
            if rotary is not None:
                own = rotary[0][row_R].flatten(0, 1), rotary[1][row_R].flatten(0, 1)
            key_TK, value_TK = project(hidden_BLD[row_R].flatten(0, 1), own, unit)
            keys_BULK[row_R, unit, :past] = key_TK.unflatten(0, (-1, past))
            values_BULK[row_R, unit, :past] = value_TK.unflatten(0, (-1, past))


class Pasts:
    """What all layers remember of sequences in caches, as long as the caches are there."""

    def __init__(self) -> None:
        self._by_cache: weakref.WeakKeyDictionary[Any, dict[int, Past]] = (
            weakref.WeakKeyDictionary()
        )

    def knows(self, cache: Any) -> bool:
        """Whether a routed forward filled the cache."""
        return cache in self._by_cache

    def of(self, cache: Any, layer: int) -> Past:
        """A layer's memory of a cache's sequence."""
        return self._by_cache.setdefault(cache, {}).setdefault(layer, Past())
