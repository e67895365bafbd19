"""What a token is worth: three definitions, fixed beforehand from the dense model.

======================  ===========================================================================
``saliency``            ``|dL/de * e|``: norm of gradient times input embedding, L the row's loss
``idf``                 ``ln((1 + n) / (1 + n_t)) + 1``: rarity among n reference texts, n_t with it
``leave_one_out``       ``|L without the token - L|``: nobody may attend to it
======================  ===========================================================================

None of them knows attention, gates or prices. They disagree with each other, which is why there
are three: Denil et al. 2014 for the first, Sparck Jones 1972 for the second (smoothed), Li et al.
2016 (erasure) for the third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NAMES = ("saliency", "idf", "leave_one_out")

#: (row of each case, token left out of it, attention mask without it) -> change of the loss
Change = Callable[[Tensor, Tensor, Tensor], Tensor]


def saliency(
    embedding_BLD: Float[Tensor, "B L D"], gradient_BLD: Float[Tensor, "B L D"]
) -> Float[Tensor, "B L"]:
    """Norm over dimensions of gradient times input embedding."""
    product_BLD = gradient_BLD.double() * embedding_BLD.double()
    norm_BL: Tensor = torch.linalg.vector_norm(product_BLD, dim=-1)
    return norm_BL


def idf_table(texts: Iterable[list[int]], vocabulary: int) -> Float[Tensor, "V"]:
    """Smoothed inverse document frequency of every token id.

    ``ln((1 + n) / (1 + n_t)) + 1`` with ``n_t`` of ``n`` texts holding token ``t``: as if one more
    text held every token once, so that unseen ones get a finite value, the largest.

    Args:
        texts: token ids of each reference text.
        vocabulary: number of token ids.
    """
    held_V = torch.zeros(vocabulary, dtype=torch.float64)
    count = 0
    for ids in texts:
        held_V[torch.tensor(sorted(set(ids)), dtype=torch.long)] += 1
        count += 1
    return ((1 + count) / (1 + held_V)).log() + 1


def leave_one_out(
    change: Change,
    mask_BL: Bool[Tensor, "B L"],
    ranked_BL: Bool[Tensor, "B L"],
    at_once: int = 64,
) -> Float[Tensor, "B L"]:
    """How much the loss changes when one token at a time can't be attended to.

    The token is left out by the attention mask: no query, its own included, sees it, and all
    others keep their positions. (A stand-in such as ``[MASK]`` would be worth something itself.)

    Args:
        change: (row (P,), token (P,), mask (P, L)) -> change of the row's loss (P,).
        mask_BL: real tokens.
        ranked_BL: which tokens to value; others get 0.
        at_once: cases per call.
    """
    row_P, token_P = ranked_BL.nonzero(as_tuple=True)
    value_BL = torch.zeros(mask_BL.shape, dtype=torch.float64, device=mask_BL.device)
    for start in range(0, len(row_P), at_once):
        row, token = row_P[start : start + at_once], token_P[start : start + at_once]
        without = mask_BL[row].clone()
        without[torch.arange(len(row), device=row.device), token] = False
        value_BL[row, token] = change(row, token, without).double().abs()
    return value_BL


def ranked_tokens(
    ids_BL: Int[Tensor, "B L"],
    mask_BL: Bool[Tensor, "B L"],
    special_ids: Iterable[int],
    *,
    causal: bool,
) -> Bool[Tensor, "B L"]:
    """The tokens that compete: real, not special, and in a decoder not the first.

    A decoder's first token, special or not, draws attention that has nowhere to go (Xiao et al.
    2024, the attention sink), as ``[CLS]`` and ``[SEP]`` do in an encoder.
    """
    special = torch.tensor(sorted(set(special_ids)), dtype=ids_BL.dtype, device=ids_BL.device)
    ranked_BL = mask_BL & ~torch.isin(ids_BL, special)
    return ranked_BL & (mask_BL.cumsum(-1) > 1) if causal else ranked_BL
