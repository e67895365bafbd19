"""Forward hooks that leave no trace, and the two places where gates enter a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.costs.shape import LayerShape
from agent_economy.errors import EconomyError

OnLayer = Callable[[int, Tensor], None]
OnSite = Callable[[int, Tensor], Tensor]


@contextmanager
def hooked(
    adapter: Adapter, on_layer: OnLayer, on_heads: OnSite, on_neurons: OnSite
) -> Iterator[None]:
    """Call back at every layer's entry and before both of its output projections.

    Args:
        adapter: where the sites are.
        on_layer: called with the layer's index and its hidden states (B, L, D).
        on_heads: maps the concatenated heads (B, L, H*K) before they are projected.
        on_neurons: maps the neurons (B, L, F) before they are projected.
    """

    def entry(index: int) -> Callable[..., None]:
        def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            on_layer(index, args[0] if args else kwargs["hidden_states"])

        return call

    def site(index: int, change: OnSite) -> Callable[..., tuple[Tensor]]:
        def call(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (change(index, args[0]),)

        return call

    handles = []
    try:
        for index, sites in enumerate(adapter.sites):
            handles.append(sites.layer.register_forward_pre_hook(entry(index), with_kwargs=True))
            handles.append(sites.attention_output.register_forward_pre_hook(site(index, on_heads)))
            handles.append(sites.ffn_output.register_forward_pre_hook(site(index, on_neurons)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def watched(adapter: Adapter, batch: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    """The dense model's output, and the hidden states on entry to every layer."""
    hidden: list[Tensor] = []

    def leave(layer: int, x: Tensor) -> Tensor:
        return x

    with hooked(adapter, lambda layer, hidden_BLD: hidden.append(hidden_BLD), leave, leave):
        output = adapter.model(**batch)
    return output, hidden


def gate_heads(
    x: Float[Tensor, "B L W"], gate_BLN: Float[Tensor, "B L N"], shape: LayerShape
) -> Float[Tensor, "B L W"]:
    """Multiply each head's slice by its gate."""
    _same_tokens(x, gate_BLN)
    return _scaled(x, gate_BLN[..., : shape.heads], (shape.head_dim,) * shape.heads)


def gate_blocks(
    x: Float[Tensor, "B L F"], gate_BLN: Float[Tensor, "B L N"], shape: LayerShape
) -> Float[Tensor, "B L F"]:
    """Multiply each neuron block by its gate; the last block may be smaller."""
    _same_tokens(x, gate_BLN)
    return _scaled(x, gate_BLN[..., shape.heads :], shape.block_sizes)


def gate_present(
    x: Float[Tensor, "B l W"],
    gate_BLA: Float[Tensor, "B L A"],
    present: tuple[int, ...],
    sizes: tuple[int, ...],
) -> Float[Tensor, "B l W"]:
    """Multiply slices of the agents that a compacted layer still holds by their gates.

    Args:
        x: concatenated heads or neurons, of the first token only where no other is computed.
        gate_BLA: of all the layer's heads, or of all its blocks.
        present: those that are left.
        sizes: widths of all of them.
    """
    if not present:
        return x
    if x.shape[1] > 1:
        _same_tokens(x, gate_BLA)
    own_BLA = gate_BLA[:, : x.shape[1], list(present)]
    return _scaled(x, own_BLA, tuple(sizes[agent] for agent in present))


def _scaled(x: Tensor, gate_BLG: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Every slice of the last dimension times its gate."""
    gate_BLG = gate_BLG.to(x.dtype)
    if sizes[-1] != sizes[0]:
        repeats = torch.tensor(sizes, device=x.device)
        return x * gate_BLG.repeat_interleave(repeats, -1, output_size=sum(sizes))
    slices = x.view(*x.shape[:-1], len(sizes), sizes[0])
    return (slices * gate_BLG[..., None]).view(x.shape)


def in_blocks(x: Tensor, size: int, dim: int) -> Tensor:
    """Split a dimension into blocks of ``size``, the last one filled up with zeros."""
    missing = -x.shape[dim] % size
    if missing:
        pad = [0, 0] * (x.dim() - 1 - dim % x.dim()) + [0, missing]
        x = torch.nn.functional.pad(x, pad)
    blocks: Tensor = x.unflatten(dim, (-1, size))
    return blocks


def _same_tokens(x: Tensor, gate_BLN: Tensor) -> None:
    if x.shape[:2] != gate_BLN.shape[:2]:
        raise EconomyError(
            f"a layer's tokens {tuple(gate_BLN.shape[:2])} reach its projection as "
            f"{tuple(x.shape[:2])}; switch off feed-forward chunking (chunk_size_feed_forward=0)"
        )
