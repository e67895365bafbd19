"""How attention is spread: entropy of what queries look at, Gini of what tokens receive.

Heads count by their gates: a head that is not served for a query attends to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.metrics.inequality import gini


class AttentionSpread(NamedTuple):
    """Summary of one forward's attention.

    Attributes:
        entropy: mean entropy of served (query, head) pairs, nats.
        gini: Gini of attention received by the real tokens of a row, mean over rows.
        received_BL: gate-weighted attention that each token receives, as a share of its row's.
    """

    entropy: float
    gini: float
    received_BL: Float[Tensor, "B L"]


def attention_spread(
    attention_YBHLL: Sequence[Float[Tensor, "B H L L"]],
    gate_YBLH: Sequence[Float[Tensor, "B L H"]],
    mask_BL: Bool[Tensor, "B L"],
) -> AttentionSpread:
    """Entropy and Gini of gate-weighted attention over all layers and heads.

    Args:
        attention_YBHLL: each layer's attention, rows (queries) summing to 1.
        gate_YBLH: each layer's head gates at the query token.
        mask_BL: real tokens.
    """
    received_BL = torch.zeros(mask_BL.shape, dtype=torch.float64, device=mask_BL.device)
    entropy = weight = torch.zeros((), dtype=torch.float64, device=mask_BL.device)
    for attention_BHQK, gate_BLH in zip(attention_YBHLL, gate_YBLH, strict=True):
        gate_BHQ = (gate_BLH * mask_BL[..., None]).transpose(1, 2).double()
        attention = attention_BHQK.double()
        entropy_BHQ = -torch.xlogy(attention, attention).sum(-1)
        entropy = entropy + (entropy_BHQ * gate_BHQ).sum()
        weight = weight + gate_BHQ.sum()
        received_BL = received_BL + torch.einsum("bhqk,bhq->bk", attention, gate_BHQ)
    received_BL = received_BL * mask_BL
    ginis = [gini(row[real]) for row, real in zip(received_BL, mask_BL, strict=True)]
    share_BL = received_BL / received_BL.sum(1, keepdim=True).clamp(min=1e-30)
    return AttentionSpread(
        float(entropy / weight.clamp(min=1e-30)), float(torch.stack(ginis).mean()), share_BL.float()
    )


def mean_attention(
    attention_BHLL: Float[Tensor, "B H L L"], gate_BLH: Float[Tensor, "B L H"]
) -> Float[Tensor, "B L L"]:
    """Gate-weighted mean over a layer's heads of each query's attention; 0 if none is served."""
    gate_BHL1 = gate_BLH.transpose(1, 2)[..., None]
    total_BL1 = gate_BHL1.sum(1)
    return (attention_BHLL * gate_BHL1).sum(1) / torch.where(total_BL1 > 0, total_BL1, 1)
