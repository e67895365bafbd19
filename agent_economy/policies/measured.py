"""Measured losses of whole allocations, laid out for fitting valuations to them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import layer_norm

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Ablation, Ablations


class MeasuredBatch(NamedTuple):
    """All allocations ``X`` tried on one batch.

    Attributes:
        x_YTD: layer-normalised hidden states, ``T = B * L`` padding included.
        closed_BXI: pairs that an allocation closed, ``I = Y * L * N``; never padding.
        tokens_B: real tokens of each row.
        change_BX: measured change of loss.
        held_BX: not to be fitted to.
    """

    x_YTD: Float[Tensor, "Y T D"]
    closed_BXI: Bool[Tensor, "B X I"]
    tokens_B: Float[Tensor, "B"]
    change_BX: Float[Tensor, "B X"]
    held_BX: Bool[Tensor, "B X"]

    def mean_of_closed(self, value_YTN: Float[Tensor, "Y T N"]) -> Float[Tensor, "B X"]:
        """Mean over a row's tokens of the sum over closed agents of their values."""
        layers, rows = len(value_YTN), len(self.tokens_B)
        value_BI = value_YTN.view(layers, rows, -1).transpose(0, 1).reshape(rows, -1)
        closed_BXI = self.closed_BXI.to(value_BI)
        return torch.bmm(closed_BXI, value_BI[..., None])[..., 0] / self.tokens_B[:, None]


def grouped(ablations: Ablations, kind: Tensor) -> list[MeasuredBatch]:
    """Ablations batch by batch, every fourth row held out (every fourth pair if rows are few).

    Args:
        ablations: those of one batch follow each other and share their first hidden states.
        kind: a tensor of the type and on the device to fit in.

    Raises:
        EconomyError: too few measurements to hold any out.
    """
    runs: list[list[Ablation]] = []
    for each in ablations:
        if not runs or runs[-1][0].hidden[0] is not each.hidden[0]:
            runs.append([])
        runs[-1].append(each)
    rows = sum(len(run[0].mask_BL) for run in runs)
    if sum(len(each.mask_BL) for each in ablations) < 8:
        raise EconomyError(
            "fewer than 8 losses were measured; calibrate on more rows or with more draws"
        )
    found, first = [], 0
    for run in runs:
        mask_BL = run[0].mask_BL
        row_B = torch.arange(first, first + len(mask_BL))
        first += len(mask_BL)
        turn_BX = row_B[:, None] + (torch.arange(len(run)) if rows < 8 else torch.zeros(len(run)))
        closed = [
            torch.stack([(~gate & mask_BL[..., None]).flatten(1) for gate in each.gates], 1)
            for each in run
        ]
        x_YTD = torch.stack([layer_norm(h, h.shape[-1:]).flatten(0, 1) for h in run[0].hidden])
        found.append(
            MeasuredBatch(
                x_YTD=x_YTD.to(kind).detach(),
                closed_BXI=torch.stack(closed, 1).flatten(2).to(kind.device),
                tokens_B=mask_BL.sum(1).to(kind),
                change_BX=torch.stack([each.change_B for each in run], 1).to(kind),
                held_BX=(turn_BX % 4 == 3).to(kind.device),
            )
        )
    return found
