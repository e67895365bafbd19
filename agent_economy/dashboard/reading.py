"""What a market did with one sentence: who bought which token, at what price, to what effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from agent_economy import Economy
    from agent_economy.dashboard.comparison import Comparison
    from agent_economy.dashboard.workshop import Workshop

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One sentence in one market, on the CPU and ready to be drawn.

    Attributes:
        tokens: of the sentence.
        heads: how many of a layer's agents are heads; they come first.
        bought_YLN: what each agent was served, 0/1, or a share for soft gates.
        bid_YLN: credits offered; not a number where no market was run.
        paid_YLN: credits charged; not a number where it is not known.
        price_YL: credits per GFLOP; an agent's own prices averaged.
        flops_fraction: spent over dense agent FLOPs; not a number where it is not known.
        comparison: the output against the dense model's; None for a recorded sentence.
    """

    tokens: list[str]
    heads: int
    bought_YLN: Array
    bid_YLN: Array
    paid_YLN: Array
    price_YL: Array
    flops_fraction: float = float("nan")
    comparison: Comparison | None = None

    @property
    def bought_share(self) -> float:
        """Agent-token pairs that were served, over all of them."""
        return float(self.bought_YLN.mean())

    def agent_names(self, layer: int | None = None) -> list[str]:
        """Names of the agents of a layer, or of all layers in row order."""
        layers, _, agents = self.bought_YLN.shape
        chosen = range(layers) if layer is None else [layer]
        return [agent_name(y, n, self.heads) for y in chosen for n in range(agents)]


def agent_name(layer: int, agent: int, heads: int) -> str:
    """A short name, as in ``"L2 head 7"``; the population's own."""
    if agent < heads:
        return f"L{layer} head {agent}"
    return f"L{layer} block {agent - heads}"


def read_sentence(
    workshop: Workshop, economy: Economy, sentence: str, dense: Any = None
) -> Reading:
    """Let the market as it stands serve a sentence, and forget it: no credit moves.

    Args:
        workshop: the model; its lock must be held.
        economy: the market.
        sentence: to read.
        dense: the dense model's output for it; computed where None.
    """
    batch = workshop.encode(sentence)
    with torch.no_grad():
        if dense is None:
            dense = workshop.model(**batch)
        with economy.trying():
            output = economy(**batch)
            bids = dict(economy.market.bids)
    receipt = output.receipt
    layers = range(len(receipt.clearings))
    nothing_LN = torch.full_like(receipt.allocation_BLN(0)[0], torch.nan)
    paid = [
        torch.zeros_like(nothing_LN) if each is None else each.payment_BLN[0]
        for each in receipt.clearings
    ]
    return Reading(
        tokens=workshop.tokens(batch),
        heads=economy.adapter.shape.heads,
        bought_YLN=_array([receipt.allocation_BLN(layer)[0] for layer in layers]),
        bid_YLN=_array([bids[layer][0] if layer in bids else nothing_LN for layer in layers]),
        paid_YLN=_array(paid),
        price_YL=_array([receipt.price_YBL[layer, 0] for layer in layers]),
        flops_fraction=receipt.flops_fraction,
        comparison=workshop.comparer.compare(batch, dense, output),
    )


def _array(parts: list[torch.Tensor]) -> Array:
    array: Array = torch.stack(parts).double().numpy(force=True)
    return array
