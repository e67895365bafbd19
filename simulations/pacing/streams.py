"""Streams of tokens in some order, and for each another one like it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor


class Pool(NamedTuple):
    """Tokens that streams are made of, text by text; agents of all layers side by side.

    Attributes:
        bid_TA: credits.
        flops_TA: of serving the token, set-up apart.
        length_X: tokens of each text, in order.
        source_X: which source each text is from.
    """

    bid_TA: Float64[Tensor, "T A"]
    flops_TA: Float64[Tensor, "T A"]
    length_X: Int[Tensor, "X"]
    source_X: Int[Tensor, "X"]

    @property
    def first_X(self) -> Int[Tensor, "X"]:
        """Where each text begins."""
        return self.length_X.cumsum(0) - self.length_X

    def tokens(self, texts: Int[Tensor, "n"]) -> Int[Tensor, "T"]:
        """Places of all tokens of some texts, one text after the other."""
        spans = zip(self.first_X[texts].tolist(), self.length_X[texts].tolist(), strict=True)
        return torch.cat([torch.arange(start, start + size) for start, size in spans])


def drawn_streams(
    pool: Pool, order: str, length: int, draws: int, seed: int
) -> tuple[Int[Tensor, "D T"], Int[Tensor, "D T"]]:
    """Places in the pool of the tokens of many streams, and of a sample for each.

    Args:
        pool: what texts there are.
        order: of the texts; see ``PacingConfig``.
        length: tokens of a stream.
        draws: how many streams.
        seed: of the lots.
    """
    generator = torch.Generator().manual_seed(seed)
    if order == "written":
        pairs = [_written(pool, length, generator) for _ in range(draws)]
    else:
        pairs = [
            (by_lot(pool, order, length, generator), by_lot(pool, order, length, generator))
            for _ in range(draws)
        ]
    streams, samples = zip(*pairs, strict=True)
    return torch.stack(streams), torch.stack(samples)


def by_lot(pool: Pool, order: str, length: int, generator: torch.Generator) -> Int[Tensor, "T"]:
    """Whole texts, or single tokens, drawn with replacement."""
    everything = torch.arange(len(pool.length_X))
    if order == "sources":
        half, halves = length // 2, []
        for source, size in ((0, half), (1, length - half)):
            texts = everything[pool.source_X == source]
            halves.append(pool.tokens(_lots(pool, texts, size, generator))[:size])
        return torch.cat(halves)
    if order == "mixed":
        return pool.tokens(_lots(pool, everything, length, generator))[:length]
    drawn = torch.randint(len(pool.bid_TA), (length,), generator=generator)
    if order == "rising":
        drawn = drawn[pool.bid_TA[drawn].sum(1).argsort()]
    return drawn


def _lots(pool: Pool, texts: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Texts drawn with replacement, as many as so many tokens take."""
    most = length // int(pool.length_X.min()) + 1
    drawn = texts[torch.randint(len(texts), (most,), generator=generator)]
    return drawn[: int((pool.length_X[drawn].cumsum(0) < length).sum()) + 1]


def _written(pool: Pool, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A stretch of one half of the text, and as its sample one of the other half."""
    first_X, total = pool.first_X, int(pool.length_X.sum())
    half = total // 2
    starts = (
        first_X[first_X <= half - length],
        first_X[(first_X >= half) & (first_X <= total - length)],
    )
    begin = [int(each[torch.randint(len(each), (1,), generator=generator)]) for each in starts]
    stretches = [torch.arange(start, start + length) for start in begin]
    if torch.randint(2, (1,), generator=generator):
        stretches.reverse()
    return stretches[0], stretches[1]
