"""What holds for a sequence from its first token on, over every forward that goes on from a cache.

Decoding with a key/value cache runs one forward per token. Its market is that of the whole sequence
so far: bids of earlier tokens are remembered and cleared again together with the new ones, from
the state in which the sequence began. Causal mechanisms decide about earlier tokens as they did,
so prefill and token-by-token decoding serve alike, whatever the mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from agent_economy.mechanisms import State


@dataclass
class Course:
    """A sequence on its way.

    Attributes:
        terms: what must not change on the way: supply, and which mechanism and plan.
        step: forwards of the economy before its first token.
        states: what each market remembered then.
        prices: each layer's last price then.
        limit_YBN: what each agent may spend on the sequence.
        active_YN: who was in business then; who is muted on the way stays in for this sequence.
        mask_BL: real tokens so far.
        bids: bids so far, layer by layer.
        paid_YN: credits charged so far.
        served_YN: tokens served so far.
    """

    terms: tuple[object, ...]
    step: int
    states: list[State]
    prices: list[Tensor | None]
    limit_YBN: Tensor
    active_YN: Tensor
    mask_BL: Tensor
    bids: dict[int, Tensor] = field(default_factory=dict)
    paid_YN: Tensor | None = None
    served_YN: Tensor | None = None

    def refuse_another(self, mask_BL: Tensor, past: int, terms: tuple[object, ...]) -> None:
        """Check that a forward goes on from here.

        Raises:
            EconomyError: the cache holds other tokens than those this market has cleared, or the
                market changed on the way.
        """
        rows, length = self.mask_BL.shape
        if (rows, length) != (mask_BL.shape[0], past) or not torch.equal(
            self.mask_BL, mask_BL[:, :past]
        ):
            raise EconomyError(
                f"the cache holds {mask_BL.shape[0]} rows of {past} tokens, but the last forward "
                f"of this economy ended at {rows} rows of {length}; prefill and decode with the "
                "same economy, one sequence after the other, rows in the same order"
            )
        if self.terms != terms:
            raise EconomyError(
                "mechanism, supply or plan changed within a sequence; prefill it anew"
            )
