"""What a study of pacing varies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulations.laboratory.config import Budget, LaboratoryConfig

Order = Literal["written", "mixed", "sources", "tokens", "rising"]


class PacingConfig(LaboratoryConfig):
    """Streams of texts whose tokens are priced one after the other.

    Attributes:
        other_text: the second source.
        supply: FLOPs of the whole stream, as a fraction of what serving everybody would take.
        orders: ``written``: a stretch of the second source as it stands there; ``mixed``: texts of
            both sources by lot; ``sources``: texts of the first, then as much of the second;
            ``tokens``: tokens of both one by one by lot; ``rising``: the same in the order of what
            is bid on them, the least first.
        lengths: tokens in a stream.
        draws: streams per cell.
        pool_texts: texts of each source that streams are drawn from, with replacement.
        written_texts: paragraphs of the second source, one after the other, that ``written``
            streams are cut from.
        window: tokens over which a smoothed plan is averaged.
        rate: step of the dual update, over the square root of the stream's length.
    """

    steps: int = Field(1, ge=1)
    batch_size: int = Field(8, ge=1)
    other_text: str = "wikitext-2"
    supply: Budget = 0.3
    orders: list[Order] = Field(["written", "mixed", "tokens", "rising"], min_length=1)
    lengths: list[Annotated[int, Field(ge=8)]] = Field([128, 256, 512, 1024, 2048], min_length=1)
    draws: int = Field(12, ge=2)
    pool_texts: int = Field(32, ge=2)
    written_texts: int = Field(96, ge=2)
    window: int = Field(65, ge=3)
    rate: float = Field(2.0, gt=0)
