"""Cutting the weights of agents that leave out of a model's own modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.compaction.absent import BiasOnly, Unread, sliced
from agent_economy.compaction.attention import compact_kind
from agent_economy.compaction.first_token import FirstToken
from agent_economy.compaction.kept import Kept
from agent_economy.errors import EconomyError


def cut(adapter: Adapter, kept: list[Kept], *, first_only: bool) -> None:
    """Make the adapter's own model smaller; the adapter is of no use afterwards.

    Raises:
        EconomyError: ``first_only`` on a decoder.
    """
    if first_only and adapter.shape.causal:
        raise EconomyError(
            f"{adapter.name} is a decoder, whose last token is read; leave first_only out"
        )
    with torch.no_grad():
        for sites, keep in zip(adapter.sites, kept, strict=True):
            _cut_attention(adapter, sites.layer, keep)
            _cut_ffn(adapter, sites.layer, keep)
    if first_only:
        layers = adapter.backbone.get_submodule(adapter.layers)
        assert isinstance(layers, nn.ModuleList)
        layers[-1] = FirstToken(layers[-1])


def check_sliceable(adapter: Adapter) -> None:
    """Refuse an architecture whose adapter does not say how weights are sliced.

    Raises:
        EconomyError: the paths are missing, or the attention has weights that no path leads to.
    """
    if not (adapter.attention and adapter.projections and adapter.ffn_inputs):
        raise EconomyError(
            f"adapter {adapter.name!r} does not say where weights are sliced; add attention, "
            "projections and ffn_inputs to it (docs/adapters.md)"
        )
    named = {f"{path}." for path in (*adapter.projections, adapter.attention_output)}
    layer = adapter.sites[0].layer
    for name, _ in layer.get_submodule(adapter.attention).named_parameters():
        full = f"{adapter.attention}.{name}"
        if not any(full.startswith(path) for path in named):
            raise EconomyError(
                f"the attention of this {adapter.name} model has a weight {name!r} that its "
                "adapter does not know; such a model cannot be compacted"
            )


def _cut_attention(adapter: Adapter, layer: nn.Module, kept: Kept) -> None:
    config = adapter.model.config
    old = layer.get_submodule(adapter.attention)
    projection = None
    if kept.heads:
        parts = [layer.get_submodule(path) for path in adapter.projections]
        rows = kept.projection_rows(len(parts))
        weights = [_rows(projection_weight(m), r) for m, r in zip(parts, rows, strict=True)]
        biases = [_rows(m.bias, r) for m, r in zip(parts, rows, strict=True) if m.bias is not None]
        projection = sliced(
            torch.cat(weights),
            torch.cat(biases) if biases else None,
            trainable=_trainable(parts),
        )
    old_output = layer.get_submodule(adapter.attention_output)
    output = _cut_output(old_output, kept.head_columns)
    inside = owns_output(adapter)
    if inside and adapter.output_dropout is not None:
        output = nn.Sequential(output, nn.Dropout(getattr(config, adapter.output_dropout)))
    dropout = getattr(config, adapter.attention_dropout)
    new = compact_kind(old)(kept, projection, output if inside else None, old, dropout)
    new.to(projection_weight(old_output).device)
    layer.set_submodule(adapter.attention, new.train(old.training))
    if not inside:
        layer.set_submodule(adapter.attention_output, output)


def owns_output(adapter: Adapter | type[Adapter]) -> bool:
    """Whether the attention module applies its output projection itself."""
    return adapter.attention_output.startswith(f"{adapter.attention}.")


def _cut_ffn(adapter: Adapter, layer: nn.Module, kept: Kept) -> None:
    neurons = kept.neurons
    for path in adapter.ffn_inputs:
        old = layer.get_submodule(path)
        new: nn.Module = Unread()
        if len(neurons):
            bias = None if old.bias is None else _rows(old.bias, neurons)
            weight = _rows(projection_weight(old), neurons)
            new = sliced(weight, bias, trainable=_trainable([old]))
        layer.set_submodule(path, new.train(old.training))
    old = layer.get_submodule(adapter.ffn_output)
    layer.set_submodule(adapter.ffn_output, _cut_output(old, neurons).train(old.training))


def _cut_output(old: nn.Module, columns: Tensor) -> nn.Module:
    """The output projection of the agents that stay; its bias belongs to nobody and stays."""
    weight = projection_weight(old)
    bias = old.bias
    assert bias is None or isinstance(bias, nn.Parameter)
    if not len(columns):
        return BiasOnly(bias, weight.shape[0])
    own = weight.index_select(1, columns.to(weight.device))
    return sliced(own, bias, trainable=_trainable([old]))


def _rows(tensor: object, rows: Tensor) -> Tensor:
    assert isinstance(tensor, Tensor)
    return tensor.index_select(0, rows.to(tensor.device))


def _trainable(modules: list[nn.Module]) -> bool:
    return any(each.requires_grad for module in modules for each in module.parameters())
