"""Where attention goes: its share on chosen tokens, and what moved it there.

With gates ``g`` (query, head) and attention ``a`` (head, query, key), a token receives::

    r_k = sum_h sum_q g_qh a_hqk                             q over all real tokens

and the share of the chosen tokens ``T`` among the ranked ones ``R`` (real, not special) is::

    S(g, a) = sum_{k in T} r_k / sum_{k in R} r_k

Scarcity moves it in two ways: gates choose whose attention still counts, and the heads that are
left see other inputs. Dropping diffuse heads must not be called reallocation, so the two are told
apart::

    S(g, scarce a) - S(1, dense a) = [S(g, dense a) - S(1, dense a)]       composition
                                   + [S(g, scarce a) - S(g, dense a)]      change within heads

The same three measures, dense, composed and scarce, split entropy and Gini.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Sums(NamedTuple):
    """What one layer's attention adds up to; layers are pooled by adding these up.

    Attributes:
        received_BL: gate-weighted attention that each token receives.
        entropy_B: gate-weighted sum of the entropy of (query, head) pairs, nats.
        served_B: sum of gates of (query, head) pairs.
        relative_B: as ``entropy_B``, each entropy divided by the log of the keys in sight.
        choosing_B: as ``served_B``, over queries that see more than one key.
        pairs_B: number of (query, head) pairs.
    """

    received_BL: Tensor
    entropy_B: Tensor
    served_B: Tensor
    relative_B: Tensor
    choosing_B: Tensor
    pairs_B: Tensor

    @classmethod
    def pooled(cls, layers: Iterable[Sums]) -> Sums:
        """All layers together: each counts by what it serves."""
        return cls(*(torch.stack(parts).sum(0) for parts in zip(*layers, strict=True)))

    @property
    def entropy(self) -> Tensor:
        """Mean entropy of served pairs of each row, nats; NaN where nothing is served."""
        return self.entropy_B / self.served_B

    @property
    def relative_entropy(self) -> Tensor:
        """Mean over served pairs of entropy over its maximum; NaN where nobody can choose."""
        return self.relative_B / self.choosing_B

    @property
    def open_heads(self) -> Tensor:
        """Share of (query, head) pairs that are served."""
        return self.served_B / self.pairs_B


def layer_sums(
    attention_BHLL: Float[Tensor, "B H L L"],
    gate_BLH: Float[Tensor, "B L H"],
    mask_BL: Bool[Tensor, "B L"],
    *,
    causal: bool,
) -> Sums:
    """Add up one layer's attention, in float64.

    Args:
        attention_BHLL: rows (queries) sum to 1, padding gets nothing.
        gate_BLH: head gates at the query token; ones for the dense model.
        mask_BL: real tokens.
        causal: whether a query sees itself and earlier tokens only.
    """
    real_BL = mask_BL.double()
    gate_BHQ = (gate_BLH.double() * real_BL[..., None]).transpose(1, 2)
    attention = attention_BHLL.double()
    entropy_BHQ = -torch.xlogy(attention, attention).sum(-1)
    seen_BQ = real_BL.cumsum(-1) if causal else real_BL.sum(-1, keepdim=True).expand_as(real_BL)
    chooses_BQ = (seen_BQ > 1) & mask_BL
    most_BQ = torch.where(chooses_BQ, seen_BQ, 2.0).log()
    free_BHQ = gate_BHQ * chooses_BQ[:, None]
    return Sums(
        torch.einsum("bhqk,bhq->bk", attention, gate_BHQ) * real_BL,
        (entropy_BHQ * gate_BHQ).sum((1, 2)),
        gate_BHQ.sum((1, 2)),
        (entropy_BHQ / most_BQ[:, None] * free_BHQ).sum((1, 2)),
        free_BHQ.sum((1, 2)),
        real_BL.sum(-1) * gate_BLH.shape[-1],
    )


def top_tokens(
    value_BL: Float[Tensor, "B L"], ranked_BL: Bool[Tensor, "B L"], fraction: float = 0.2
) -> Bool[Tensor, "B L"]:
    """The most valuable tokens of each row: at most ``fraction`` of the ranked ones, at least one.

    Equal values go to the earlier token. A row without ranked tokens has none.
    """
    # A count such as 0.2 * 15 must not fall to 2 by rounding.
    count_B = (ranked_BL.sum(-1).double() * fraction + 1e-9).floor().clamp(min=1)
    hidden_BL = torch.where(ranked_BL, value_BL.double(), -torch.inf)
    order_BL = hidden_BL.sort(dim=-1, descending=True, stable=True).indices
    rank_BL = order_BL.argsort(-1)
    return (rank_BL < count_B[:, None]) & ranked_BL


def share_on(
    received_BL: Float[Tensor, "B L"], top_BL: Bool[Tensor, "B L"], ranked_BL: Bool[Tensor, "B L"]
) -> Float[Tensor, "B"]:
    """``S``: the chosen tokens' share of what ranked tokens receive; NaN where that is nothing."""
    return (received_BL * top_BL).sum(-1) / (received_BL * ranked_BL).sum(-1)


def row_gini(received_BL: Float[Tensor, "B L"], mask_BL: Bool[Tensor, "B L"]) -> Float[Tensor, "B"]:
    """Gini of each row's real tokens, all rows at once; NaN where nothing is received.

    The same number as ``metrics.inequality.gini`` of the row without its padding.
    """
    x_BL = torch.where(mask_BL, received_BL, 0.0).sort(-1).values  # padding comes first
    count_B1 = mask_BL.sum(-1, keepdim=True)
    length = mask_BL.shape[1]
    place_BL = torch.arange(1, length + 1, device=mask_BL.device) - (length - count_B1)
    weight_BL = (2 * place_BL - count_B1 - 1).to(x_BL)
    return (x_BL * weight_BL).sum(-1) / (count_B1[:, 0] * x_BL.sum(-1))
