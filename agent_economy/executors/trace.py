"""One dense pass that watches every agent: what it adds, and how the loss depends on its gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.costs.tariff import first_tokens
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import gate_blocks, gate_heads, hooked, in_blocks
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.policies.base import Ablations, LayerTrace, Trace

#: (model output, batch, generator) -> a scalar, summed over the rows of the batch
ProbeLoss = Callable[[Any, dict[str, Any], torch.Generator], Tensor]


def trace(
    adapter: Adapter,
    batches: Iterable[dict[str, Any]],
    loss: ProbeLoss,
    *,
    probes: int = 2,
    seed: int = 0,
) -> Trace:
    """Run the dense model and differentiate the loss with respect to every gate, all open.

    Args:
        adapter: the model.
        batches: inputs of the model.
        loss: what to differentiate; a random one is drawn ``probes`` times per batch.
        probes: draws per batch.
        seed: of the draws.

    Returns:
        Per layer, over the real tokens ``T`` of all batches: hidden states on entry (T, D),
        gate gradients (S, T, N) for each draw, norms of what agents add (T, N), and which
        tokens are read where not all are.

    Raises:
        EconomyError: there is no batch.
    """
    shape = adapter.shape
    generator = torch.Generator().manual_seed(seed)
    layers: list[list[LayerTrace]] = [[] for _ in adapter.sites]
    pooled = reading_of(adapter).pooled
    trainable = [p for p in adapter.model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        for batch in batches:
            mask_BL = token_mask(batch)
            hidden: list[Tensor] = []
            gates: list[Tensor] = []
            norms: list[Tensor] = []

            def on_layer(layer: int, hidden_BLD: Tensor) -> None:
                hidden.append(hidden_BLD.detach()[mask_BL])  # noqa: B023 - used in this pass only
                ones = torch.ones(*hidden_BLD.shape[:2], shape.agents, device=hidden_BLD.device)
                gates.append(ones.requires_grad_())  # noqa: B023

            def on_heads(layer: int, x: Tensor) -> Tensor:
                weight = projection_weight(adapter.sites[layer].attention_output)
                norms.append(contribution_norms(x[mask_BL], weight, shape.head_dim))  # noqa: B023
                return gate_heads(x, gates[layer], shape)  # noqa: B023

            def on_neurons(layer: int, x: Tensor) -> Tensor:
                weight = projection_weight(adapter.sites[layer].ffn_output)
                norms.append(contribution_norms(x[mask_BL], weight, shape.block_size))  # noqa: B023
                return gate_blocks(x, gates[layer], shape)  # noqa: B023

            with torch.enable_grad(), hooked(adapter, on_layer, on_heads, on_neurons):
                output = adapter.model(**batch)
                draws = [
                    torch.autograd.grad(loss(output, batch, generator), gates, retain_graph=True)
                    for _ in range(probes)
                ]
            for layer, seen in enumerate(layers):
                gradient = torch.stack([draw[layer][mask_BL] for draw in draws])
                norm = torch.cat(norms[2 * layer : 2 * layer + 2], -1)
                last = pooled and layer == len(layers) - 1
                read_T = first_tokens(mask_BL)[mask_BL] if last else None
                seen.append(LayerTrace(hidden[layer], gradient, norm, read_T))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
    if not layers[0]:
        raise EconomyError("calibration needs at least one batch")
    return [
        LayerTrace(
            torch.cat([part.hidden_TD for part in seen]),
            torch.cat([part.gradient_STN for part in seen], 1),
            torch.cat([part.norm_TN for part in seen]),
            _joined([part.read_T for part in seen]),
        )
        for seen in layers
    ]


def _joined(read: list[Tensor | None]) -> Tensor | None:
    """Which tokens of all batches are read; None where all are."""
    given = [read_T for read_T in read if read_T is not None]
    return torch.cat(given) if given else None


def read_ahead(
    measured: Trace, ablations: Ablations | None = None
) -> tuple[Trace, Ablations | None]:
    """The same with what enters the first layer in place of every layer's own hidden states.

    For bids of all layers that are made before the first one runs.
    """
    first_TD = measured[0].hidden_TD
    measured = [layer._replace(hidden_TD=first_TD) for layer in measured]
    if ablations is not None:
        layers = len(measured)
        ablations = [each._replace(hidden=each.hidden[:1] * layers) for each in ablations]
    return measured, ablations


def contribution_norms(x_TW: Tensor, weight_DW: Tensor, size: int) -> Tensor:
    """Norm of what each agent adds to the residual stream, (T, agents)."""
    with torch.no_grad():
        parts = in_blocks(x_TW, size, -1).transpose(0, 1)
        added = torch.bmm(parts, in_blocks(weight_DW.T, size, 0))
        norms: Tensor = torch.linalg.vector_norm(added, dim=-1)
        return norms.T
