"""Which neurons form a block: those of about equal worth.

A pretrained FFN's neurons stand in no order, so a block of neighbours holds good and bad ones, and
who buys or prunes blocks buys both. Before anything is chosen, each layer's neurons are sorted by
Fisher information (Kwon et al. 2022, arXiv 2204.09656, score single neurons so):
``E[(dL/dgate)^2]`` over rows, the gate shared by a row's tokens. The order of neurons means nothing
to the model, whose outputs stay what they are. All methods, the economy's and its rivals', meet the
same blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.executors.hooks import hooked
from agent_economy.executors.masked import token_mask

RowLoss = Callable[[Any, dict[str, Any]], Tensor]


def neuron_fisher(
    adapter: Adapter, batches: list[dict[str, Any]], loss: RowLoss
) -> Float[Tensor, "Y F"]:
    """Mean over rows of the squared derivative of the loss by each neuron's gate.

    Args:
        adapter: the model.
        batches: inputs of the model.
        loss: (output, batch) -> a scalar, summed over rows.
    """
    total_YF = torch.zeros(len(adapter.sites), adapter.shape.ffn, dtype=torch.float64)
    rows = 0
    for batch in batches:
        neurons: list[Tensor] = []

        def keep(layer: int, x_BLF: Tensor) -> Tensor:
            neurons.append(x_BLF)  # noqa: B023 - used in this pass only
            return x_BLF

        with torch.enable_grad(), hooked(adapter, lambda layer, x: None, _pass, keep):
            # Gradients reach the neurons even where nothing below them is trained.
            gradients = torch.autograd.grad(loss(adapter.model(**batch), batch), neurons)
        mask_BL1 = token_mask(batch)[..., None]
        for layer, (x_BLF, gradient_BLF) in enumerate(zip(neurons, gradients, strict=True)):
            row_BF = (x_BLF.detach() * gradient_BLF * mask_BL1).double().sum(1)
            total_YF[layer] += row_BF.square().sum(0).cpu()
        rows += len(mask_BL1)
    return total_YF / max(rows, 1)


@torch.no_grad()
def sort_neurons(adapter: Adapter, score_YF: Float[Tensor, "Y F"]) -> None:
    """Put every layer's neurons in the order of their scores, the best first, in place."""
    for layer, (sites, score_F) in enumerate(zip(adapter.sites, score_YF, strict=True)):
        order_F = score_F.argsort(descending=True, stable=True)
        for path in adapter.ffn_inputs:
            _permute(adapter.sites[layer].layer.get_submodule(path), order_F, inputs=False)
        _permute(sites.ffn_output, order_F, inputs=True)


def _permute(module: nn.Module, order_F: Tensor, *, inputs: bool) -> None:
    """Reorder the inputs or the outputs of a projection, ``Linear`` or GPT-2's ``Conv1D``."""
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    order_F = order_F.to(weight.device)
    # A Linear's weight is (out, in), a Conv1D's (in, out).
    rows = isinstance(module, nn.Linear) != inputs
    weight.copy_(weight[order_F] if rows else weight[:, order_F])
    if not inputs and isinstance(bias, Tensor):
        bias.copy_(bias[order_F])


def _pass(layer: int, x: Tensor) -> Tensor:
    return x
