"""What the agents of a layer are charged: FLOPs, or picoseconds of a machine that was measured.

Markets count in whole units. Under the FLOPs tariff a unit is a FLOP; under a latency tariff it is
a picosecond, so a thousand million of them are a GFLOP or a millisecond, and a price per GFLOP
reads as a price per millisecond. Names keep saying ``flops``; a receipt tells both apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["flops", "ps"]

PS_PER_MS = 1_000_000_000


@dataclass(frozen=True)
class Rates:
    """Charges of one layer, in whole units.

    Attributes:
        unit: what is counted.
        head: a head, for a token that it serves: query and output projections.
        pair: a head, for a token that it serves and a token which that one attends to.
        setup: a key/value head in use, for a context token.
        blocks: each neuron block, for a token that it serves.
        flop: a FLOP of bidding.
        bid: clearing one agent's bid for one token at a uniform price; None where clearing is
            counted in FLOPs, as each mechanism declares them.
    """

    unit: Unit
    head: int
    pair: int
    setup: int
    blocks: tuple[int, ...]
    flop: float = 1.0
    bid: float | None = None
