"""The value of every token of a batch, from the dense model alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent_economy.executors.masked import token_mask
from agent_economy.metrics import token_value
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.utility import EmbeddingFidelity, Perplexity, Utility

if TYPE_CHECKING:
    from simulations.reallocation.session import Session
    from simulations.reallocation.texts import Batch

Loss = Callable[[Any, dict[str, Any], torch.Generator], Tensor]

#: random projections that saliency is averaged over where no label says what the loss is
_DRAWS = 8


def value_tokens(
    session: Session, batch: Batch, ranked_BL: Tensor, output: Any, *place: int
) -> dict[str, Tensor]:
    """Each definition of value that the study names: (B, L).

    Args:
        session: model, utility, reference texts.
        batch: inputs of the model.
        ranked_BL: the tokens to value.
        output: of the dense model.
        place: of the batch in the study, for draws of its own.
    """
    model, utility = session.model, session.utility
    found = {}
    for name in session.config.values:
        if name == "saliency":
            draws = _DRAWS if isinstance(utility, EmbeddingFidelity) else 1
            seed = seed_for(0, "saliency", *place)
            generator = torch.Generator().manual_seed(seed)
            found[name] = input_saliency(model, batch, utility.loss, draws, generator)
        elif name == "idf":
            found[name] = session.idf_V[batch["input_ids"]]
        else:
            found[name] = left_out(model, batch, utility, output, ranked_BL)
    return found


def input_saliency(
    model: nn.Module, batch: Batch, loss: Loss, draws: int, generator: torch.Generator
) -> Tensor:
    """Mean over draws of the loss of ``metrics.token_value.saliency`` (B, L).

    A hook makes the input embeddings a leaf, so that positions come from the token ids as ever.
    """
    leaf: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        leaf.append(output.detach().requires_grad_())
        return leaf[-1]

    handle = model.get_input_embeddings().register_forward_hook(hook)  # type: ignore[operator]
    try:
        with torch.enable_grad():
            output = model(**batch)
            values = []
            for draw in range(draws):
                more = draw + 1 < draws
                value = loss(output, batch, generator)
                (gradient,) = torch.autograd.grad(value, leaf[0], retain_graph=more)
                values.append(token_value.saliency(leaf[0].detach(), gradient))
    finally:
        handle.remove()
    return torch.stack(values).mean(0)


@torch.no_grad()
def left_out(
    model: nn.Module, batch: Batch, utility: Utility, output: Any, ranked_BL: Tensor
) -> Tensor:
    """``metrics.token_value.leave_one_out`` of the row's loss (B, L).

    In a decoder the loss is what all tokens but the one left out predict: its own state holds it
    whether or not it may be attended to.

    Args:
        model: the dense model.
        batch: its inputs.
        utility: what is lost.
        output: of the dense model.
        ranked_BL: tokens to value.
    """
    decoder = isinstance(utility, Perplexity)
    reference = utility.reference(output, batch)
    dense = next_token_nll(output, batch) if decoder else utility.row_loss(output, batch, reference)

    def change(row_P: Tensor, token_P: Tensor, mask_PL: Tensor) -> Tensor:
        longest = int(batch["attention_mask"][row_P].sum(-1).max())
        part = {
            key: value[row_P] if key == "labels" else value[row_P, :longest]
            for key, value in batch.items()
        }
        without = part | {"attention_mask": mask_PL[:, :longest].long()}
        output = model(**without)
        if not decoder:
            return utility.row_loss(output, without, reference[row_P]) - dense[row_P]
        change_PT = next_token_nll(output, part) - dense[row_P, : longest - 1]
        own_PT = torch.arange(longest - 1, device=token_P.device) == token_P[:, None]
        return change_PT.masked_fill(own_PT, 0.0).sum(-1)

    return token_value.leave_one_out(change, token_mask(batch), ranked_BL)


def next_token_nll(output: Any, batch: Batch) -> Tensor:
    """Loss of predicting each next token, nats, (B, L - 1); 0 where there is no next token."""
    ids_BT, real_BT = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:]
    logits = output.logits[:, :-1].flatten(0, 1)
    nll_BT = F.cross_entropy(logits, ids_BT.flatten(), reduction="none").view(ids_BT.shape)
    return nll_BT.double() * real_BT
