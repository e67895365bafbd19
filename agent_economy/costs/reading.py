"""What of a model's computation is read: found out by trying, for any task head.

A classifier reads the first token of the last layer's output and nothing else, so all else in that
layer's queries, attention outputs and FFN is dead computation. Whether a model is one of those is
seen in two forwards on three tokens: the second one puts NaN into the last layer's output at all
tokens but the first. Whatever reads these, with whatever weight, gives NaN.

The same forwards show which linear maps outside the layers run how often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agent_economy.costs.fixed import FixedFlops, fixed_flops

_TOKENS = 3


class Reading(NamedTuple):
    """What happens outside the layers.

    Attributes:
        pooled: whether only the first token of the last layer's output is read.
        fixed: FLOPs of the maps outside the layers.
    """

    pooled: bool
    fixed: FixedFlops


@torch.no_grad()
def reading(model: nn.Module, layers: list[nn.Module], *, avoid: Iterable[int]) -> Reading:
    """Probe a model; weights, hooks, mode and random state are afterwards as they were.

    Args:
        model: takes ``input_ids`` and ``attention_mask``.
        layers: its layers, in order; each gives hidden states (B, L, D), alone or first of many.
        avoid: token ids that are not ordinary tokens: padding, end of text.
    """
    device = next(model.parameters()).device
    special = set(avoid)
    ordinary = next(each for each in range(1, len(special) + 2) if each not in special)
    ids_BL = torch.full((1, _TOKENS), ordinary, device=device)
    batch = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}
    inside = {id(module) for layer in layers for module in layer.modules()}
    seen: dict[nn.Module, int] = {}

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[module] = seen.get(module, 0) + args[0].shape[:-1].numel()

    training = model.training
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        undo.callback(model.train, training)
        model.eval()
        with ExitStack() as counting:
            for module in model.modules():
                if id(module) not in inside and _is_linear(module):
                    counting.callback(module.register_forward_pre_hook(note).remove)
            clean = list(_tensors(model(**batch)))
        undo.callback(layers[-1].register_forward_hook(_taint).remove)
        tainted = list(_tensors(model(**batch)))
    pooled = all(torch.equal(one, two) for one, two in zip(clean, tainted, strict=True))
    return Reading(pooled, fixed_flops(list(seen), list(seen.values()), _TOKENS))


def _is_linear(module: nn.Module) -> bool:
    """A ``Linear``, or the ``Conv1D`` of GPT-2, which is one too."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _taint(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """NaN in the hidden states of every token but the first."""
    hidden_BLD: Tensor = output[0] if isinstance(output, tuple) else output
    tainted_BLD = hidden_BLD.clone()
    tainted_BLD[:, 1:] = torch.nan
    return (tainted_BLD, *output[1:]) if isinstance(output, tuple) else tainted_BLD


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of a model's output; a key/value cache, which is none, is left out."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for each in output.values():
            yield from _tensors(each)
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)
