"""What is minimised: the task's loss, the teacher's outputs, the FLOPs.

    loss = task + a * logits + b * hidden + lambda * expected FLOPs / dense FLOPs

``logits``: squared distance to the teacher's prediction for a regression, else the KL divergence of
the softened class probabilities times ``t^2`` (Hinton et al. 2015, arXiv 1503.02531). ``hidden``:
squared distance of hidden states on entry to some layers, as a share of the teacher's variance
there (after Xia et al. 2022, arXiv 2204.00408; no projection, the widths are equal).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

SOFTNESS = 2.0
"""The temperature ``t`` of class probabilities."""


def task_loss(logits_BC: Float[Tensor, "B C"], labels_B: Tensor) -> Tensor:
    """Mean squared error of a regression, cross-entropy of a classification."""
    logits_BC = logits_BC.float()
    if labels_B.is_floating_point():
        return F.mse_loss(logits_BC.squeeze(-1), labels_B)
    return F.cross_entropy(logits_BC, labels_B)


def next_token_loss(logits_BLV: Float[Tensor, "B L V"], inputs: dict[str, Tensor]) -> Tensor:
    """Mean negative log-likelihood of the text's own next tokens, padding left out."""
    ids_BL = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return F.cross_entropy(logits_BLV[:, :-1].float().flatten(0, 1), ids_BL[:, 1:].flatten())


def logit_distance(
    logits_BC: Float[Tensor, "B C"], teacher_BC: Float[Tensor, "B C"], *, regression: bool
) -> Tensor:
    """How far predictions are from the teacher's."""
    logits_BC, teacher_BC = logits_BC.float(), teacher_BC.float()
    if regression:
        return F.mse_loss(logits_BC, teacher_BC)
    divergence = F.kl_div(
        (logits_BC / SOFTNESS).log_softmax(-1),
        (teacher_BC / SOFTNESS).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * SOFTNESS**2


def hidden_distance(
    hidden: list[Float[Tensor, "B L D"]],
    teacher: list[Float[Tensor, "B L D"]],
    mask_BL: Bool[Tensor, "B L"],
) -> Tensor:
    """Squared distance over real tokens, as a share of the teacher's variance; mean over layers.

    For T real tokens, ``sum |own - theirs|^2 / (T D)`` over the mean over dimensions of
    ``sum (theirs - mean)^2 / (T - 1)``. Sums run over all places, padding set to 0 beforehand:
    to select real tokens is to ask a device how many there are, and to wait for the answer.

    Args:
        hidden: the student's states on entry to each layer.
        teacher: the teacher's; no gradient is meant to reach it.
        mask_BL: real tokens, at least two. Whatever stands elsewhere, NaN included, reaches
            neither the distance nor its gradient.
    """
    real_BL1 = mask_BL[..., None]
    tokens = mask_BL.sum()
    shares = []
    for own_BLD, theirs_BLD in zip(hidden, teacher, strict=True):
        own_BLD = torch.where(real_BL1, own_BLD.float(), 0.0)
        theirs_BLD = torch.where(real_BL1, theirs_BLD.float(), 0.0)
        apart = (own_BLD - theirs_BLD).square().sum() / (tokens * own_BLD.shape[-1])
        mean_D = theirs_BLD.sum((0, 1)) / tokens
        from_mean_BLD = torch.where(real_BL1, theirs_BLD - mean_D, 0.0)
        spread = from_mean_BLD.square().sum((0, 1)).mean() / (tokens - 1)
        shares.append(apart / spread.clamp(min=1e-12))
    return torch.stack(shares).mean()
