"""Take a compacted model's weights home into the full model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.compaction.attention import CompactAttention
from agent_economy.compaction.cutting import owns_output
from agent_economy.compaction.first_token import FirstToken
from agent_economy.compaction.kept import Kept, kept_agents
from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def write_back(small: PreTrainedModel, adapter: Adapter, plan_YN: Bool[Tensor, "Y N"]) -> None:
    """Copy a small model's weights to their places in the full one.

    What is no agent's (embeddings, norms, biases of output projections, pooler, task head) is
    copied whole. Weights of agents that are not in the plan stay as they were.

    Args:
        small: what ``shrink`` gave for this model and plan, trained since.
        adapter: the full model, changed in place.
        plan_YN: the plan.

    Raises:
        EconomyError: the small model was made of another model or plan.
    """
    kept = kept_agents(plan_YN, adapter.shape, len(adapter.sites))
    layers = list(small.base_model.get_submodule(adapter.layers).children())
    own: list[nn.Module] = [each.layer if isinstance(each, FirstToken) else each for each in layers]
    home: set[int] = set()
    for sites, layer, keep in zip(adapter.sites, own, kept, strict=True):
        home |= _write_layer(adapter, sites.layer, layer, keep)
    wrapper = ".layer." if isinstance(layers[-1], FirstToken) else ""
    last = _prefix(adapter.model, adapter.sites[-1].layer)
    given = small.state_dict(keep_vars=True)
    for name, tensor in adapter.model.state_dict(keep_vars=True).items():
        if id(tensor) in home:
            continue
        if wrapper and name.startswith(f"{last}."):
            name = last + wrapper + name[len(last) + 1 :]
        source = given.get(name)
        if source is None or source.shape != tensor.shape:
            raise EconomyError(
                f"the small model has no {name!r} of shape {tuple(tensor.shape)}; "
                "write back into the model that it was made of"
            )
        tensor.copy_(source)


def _write_layer(adapter: Adapter, full: nn.Module, small: nn.Module, kept: Kept) -> set[int]:
    """Copy one layer's agents; the ids of all tensors that agents own or share."""
    attention = small.get_submodule(adapter.attention)
    assert isinstance(attention, CompactAttention)
    paths = (
        *adapter.projections,
        adapter.attention_output,
        *adapter.ffn_inputs,
        adapter.ffn_output,
    )
    parts = [full.get_submodule(path) for path in adapter.projections]
    rows = kept.projection_rows(len(parts))
    if attention.projection is not None:
        sizes = [len(each) for each in rows]
        _fits(attention.projection.weight, sum(sizes))
        weights = attention.projection.weight.split(sizes)
        biases = (
            None if attention.projection.bias is None else attention.projection.bias.split(sizes)
        )
        for index, (module, where) in enumerate(zip(parts, rows, strict=True)):
            _put_rows(module, where, weights[index], None if biases is None else biases[index])
    if owns_output(adapter):
        output = attention.output
        output = output[0] if isinstance(output, nn.Sequential) else output
    else:
        output = small.get_submodule(adapter.attention_output)
    assert isinstance(output, nn.Module)
    _put_columns(full.get_submodule(adapter.attention_output), kept.head_columns, output)
    neurons = kept.neurons
    for path in adapter.ffn_inputs:
        source = small.get_submodule(path)
        if isinstance(source, nn.Linear):
            _fits(source.weight, len(neurons))
            _put_rows(full.get_submodule(path), neurons, source.weight, source.bias)
    _put_columns(
        full.get_submodule(adapter.ffn_output), neurons, small.get_submodule(adapter.ffn_output)
    )
    return {id(each) for path in paths for each in full.get_submodule(path).parameters()}


def _put_rows(module: nn.Module, rows: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    own = projection_weight(module)
    own[rows.to(own.device)] = weight.to(own)
    if bias is not None:
        assert isinstance(module.bias, Tensor)
        module.bias[rows.to(own.device)] = bias.to(own)


def _put_columns(module: nn.Module, columns: Tensor, source: nn.Module) -> None:
    own = projection_weight(module)
    if isinstance(source, nn.Linear):
        _fits(source.weight.T, len(columns))
        own[:, columns.to(own.device)] = source.weight.to(own)
    if isinstance(source.bias, Tensor):
        assert isinstance(module.bias, Tensor)
        module.bias.copy_(source.bias)


def _fits(weight: Tensor, size: int) -> None:
    if len(weight) != size:
        raise EconomyError(
            f"the plan keeps {size} rows where the small model has {len(weight)}; "
            "write back with the plan that it was made with"
        )


def _prefix(model: nn.Module, module: nn.Module) -> str:
    """The dotted path to a module."""
    names: dict[nn.Module, str] = {each: name for name, each in model.named_modules()}
    return names[module]
