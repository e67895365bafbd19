"""Whether agents would rather have what others got."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def envy_BN(
    value_BLN: Float[Tensor, "B L N"],
    gate_BLN: Float[Tensor, "B L N"],
    payment_BLN: Float[Tensor, "B L N"],
    heads: int,
) -> Float[Tensor, "B N"]:
    """What each agent would gain by the best bundle of another agent of its kind and layer.

    ``max(0, max_j (v_i . x_j - p_j) - (v_i . x_i - p_i)) / sum_t v_it`` over the agents ``j`` that
    cost the same as ``i``, so that ``i`` could use ``j``'s FLOPs (Foley 1967; with money, Alkan,
    Demange and Gale 1991). 0: nobody envies; 1: an agent without anything would like to be served
    free and whole.

    Args:
        value_BLN: what each token is worth to each agent.
        gate_BLN: who is served.
        payment_BLN: what is paid.
        heads: agents before the first block.
    """
    value_BLN, gate_BLN = value_BLN.double(), gate_BLN.double()
    paid_BN = payment_BLN.double().sum(1)
    # [b, i, j]: what i makes of the bundle and the bill of j.
    rent_BNN = value_BLN.transpose(1, 2) @ gate_BLN - paid_BN[:, None]
    own_BN1 = rent_BNN.diagonal(dim1=1, dim2=2)[..., None]
    head_N = torch.arange(value_BLN.shape[-1]) < heads
    alike_NN = head_N[:, None] == head_N
    better_BN = torch.where(alike_NN, rent_BNN - own_BN1, 0.0).amax(-1)
    return better_BN.clamp(min=0) / value_BLN.sum(1).clamp(min=1e-30)
