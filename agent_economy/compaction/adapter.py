"""An economy's view of a compacted model: all agents of the whole one, of which some are left.

Agents keep the numbers that they had, so bids, prices and wallets mean what they meant; those that
left are muted. So what never trades can leave, and the rest goes on trading and is routed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from agent_economy.adapters import ADAPTERS, Adapter, Sites, adapter_for
from agent_economy.compaction.cutting import owns_output
from agent_economy.compaction.first_token import FirstToken
from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from agent_economy.costs.shape import LayerShape

_KINDS: dict[type[Adapter], type[Adapter]] = {}


def adapter_of(model: PreTrainedModel, block_size: int) -> Adapter:
    """The adapter of any model, compacted or not.

    Raises:
        EconomyError: there is none, or the model was compacted with blocks of another size.
    """
    found = getattr(model.config, "compaction", None)
    if found is None:
        return adapter_for(model, block_size)
    if block_size != found["block_size"]:
        raise EconomyError(
            f"this model was compacted in blocks of {found['block_size']} neurons, not of "
            f"{block_size}; found the economy with block_size={found['block_size']}"
        )
    return _kind(ADAPTERS.get(found["base_model_type"]))(model, block_size)


def absent_agents(adapter: Adapter) -> torch.Tensor:
    """(Y, N) agents that left the adapter's model when it was compacted; none of a whole one."""
    absent_YN = torch.zeros(len(adapter.sites), adapter.shape.agents, dtype=torch.bool)
    for layer, (heads, blocks) in enumerate(adapter.present or ()):
        absent_YN[layer] = True
        absent_YN[layer, list(heads)] = False
        absent_YN[layer, [adapter.shape.heads + block for block in blocks]] = False
    return absent_YN


def whole_model(model: PreTrainedModel, kind: Any = None) -> PreTrainedModel:
    """A model of the architecture that a compacted one was made of, with random weights.

    Args:
        model: compacted.
        kind: of Auto class; None: with the head that the compacted model has.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = model.config
    leave = ("compaction", "model_type")
    fields = {key: value for key, value in config.to_dict().items() if key not in leave}
    base = CONFIG_MAPPING[config.compaction["base_model_type"]].from_dict(fields)
    base._attn_implementation = config._attn_implementation
    if kind is not None:
        return kind.from_config(base)  # type: ignore[no-any-return]
    whole: Any = type(model).__mro__[1]
    return whole(base)  # type: ignore[no-any-return]


class CompactedAdapter(Adapter):
    """Mixed into an architecture's adapter; see ``adapter_of``."""

    def __init__(self, model: PreTrainedModel, block_size: int) -> None:
        found = model.config.compaction
        self.model, self.backbone = model, model.base_model
        self.present = [
            (tuple(heads), tuple(blocks))
            for heads, blocks in zip(found["heads"], found["blocks"], strict=True)
        ]
        self.sites = []
        for layer in self.backbone.get_submodule(self.layers).children():
            inner = layer.layer if isinstance(layer, FirstToken) else layer
            own = (inner.get_submodule(path) for path in (self.attention_output, self.ffn_output))
            self.sites.append(Sites(layer, *own))
        self.shape = self._shape(block_size)

    def _shape(self, block_size: int) -> LayerShape:
        """Of the whole model: made without weights, as only its adapter knows how to read it."""
        from transformers import AutoModel

        with torch.device("meta"):
            whole = whole_model(self.model, AutoModel)
        return ADAPTERS.get(self.name)(whole, block_size).shape


def _kind(base: type[Adapter]) -> type[Adapter]:
    """The adapter of what is left of an architecture's models."""
    if base not in _KINDS:
        output = base.attention_output
        if owns_output(base):
            output = f"{base.attention}.output" + ("" if base.output_dropout is None else ".0")
        paths = {"projections": (f"{base.attention}.projection",), "attention_output": output}
        _KINDS[base] = type(f"Compacted{base.__name__}", (CompactedAdapter, base), paths)
    return _KINDS[base]
