"""Padded batches as one run of real tokens, and back."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor


class Packing:
    """Which places of a padded (B, L) batch hold real tokens.

    Args:
        mask_BL: real tokens.

    Attributes:
        rows: ``B``.
        length: ``L``.
        tokens: ``T``, real tokens in all.
        place_T: index of each real token in the flattened batch; None where all are real.
        row_T: row of each real token.
    """

    def __init__(self, mask_BL: Bool[Tensor, "B L"]) -> None:
        self.rows, self.length = mask_BL.shape
        place_T = mask_BL.flatten().nonzero()[:, 0]
        self.tokens = len(place_T)
        self.is_full = self.tokens == mask_BL.numel()
        self.place_T = None if self.is_full else place_T
        self.row_T = place_T // max(self.length, 1)

    def pack(self, x_BLX: Tensor) -> Tensor:
        """(B, L, X) -> (T, X); a view where all tokens are real."""
        flat = x_BLX.flatten(0, 1)
        return flat if self.place_T is None else flat.index_select(0, self.place_T)

    def unpack(self, x_TX: Tensor) -> Tensor:
        """(T, X) -> (B, L, X), zeros in padding; a view where all tokens are real."""
        shape = self.rows, self.length, *x_TX.shape[1:]
        if self.place_T is None:
            return x_TX.view(shape)
        padded = x_TX.new_zeros(self.rows * self.length, *x_TX.shape[1:])
        return padded.index_copy_(0, self.place_T, x_TX).view(shape)

    def places(self, token_P: Tensor) -> Tensor:
        """Indices in the flattened batch of these real tokens."""
        return token_P if self.place_T is None else self.place_T[token_P]
