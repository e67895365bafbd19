"""One class an architecture: where heads and neurons write into the residual stream.

Every agent writes through an output projection, so its gate multiplies its slice of that
projection's *input*: one rule for heads and for blocks (docs/adapters.md).
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from agent_economy.costs.shape import LayerShape
from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Sites(NamedTuple):
    """Modules of one layer.

    Attributes:
        layer: takes hidden states as its first argument; the market trades on entry.
        attention_output: projection of the concatenated heads, input width ``H * K``.
        ffn_output: projection of the neurons, input width ``F``.
    """

    layer: nn.Module
    attention_output: nn.Module
    ffn_output: nn.Module


class Adapter(ABC):
    """Reads an architecture; members fill in the class attributes.

    Attributes:
        name: ``model.config.model_type``.
        layers: dotted path from the backbone (``model.base_model``) to the list of layers.
        attention_output: dotted path from a layer to the projection that heads write through.
        ffn_output: dotted path from a layer to the projection that neurons write through.
        gated_ffn: whether the FFN has a gate matrix beside its input matrix.
        decoder: whether tokens attend to earlier ones only; ``config.is_decoder`` where None.
        attention: dotted path from a layer to the module that computes attention. With the next
            two, what ``compaction`` needs to know of where weights are sliced.
        projections: paths from a layer to its query, key and value projections; one path where
            they are one matrix, its outputs in that order.
        ffn_inputs: paths from a layer to the projections that neurons read through.
        attention_dropout: the config's key for dropout of attention weights.
        output_dropout: the config's key for dropout that the attention module applies after its
            output projection; none where None.
        present: heads and neuron blocks of each layer that its weights still hold, ascending; None
            where they hold all, as they do in any model that was not compacted.

    Args:
        model: a Hugging Face model with that architecture, task head or none.
        block_size: neurons in a block agent.

    Raises:
        EconomyError: the layer's shape is not what the adapter expects.
    """

    name: ClassVar[str]
    layers: ClassVar[str]
    attention_output: ClassVar[str]
    ffn_output: ClassVar[str]
    gated_ffn: ClassVar[bool] = False
    decoder: ClassVar[bool | None] = None
    attention: ClassVar[str] = ""
    projections: ClassVar[tuple[str, ...]] = ()
    ffn_inputs: ClassVar[tuple[str, ...]] = ()
    attention_dropout: ClassVar[str] = "attention_probs_dropout_prob"
    output_dropout: ClassVar[str | None] = None
    present: list[tuple[tuple[int, ...], tuple[int, ...]]] | None = None

    def __init__(self, model: PreTrainedModel, block_size: int) -> None:
        if getattr(model.config, "add_cross_attention", False):
            raise EconomyError(
                f"this {self.name} model has cross-attention, which belongs to no agent; "
                "load it without (add_cross_attention=False)"
            )
        self.model = model
        self.backbone: nn.Module = model.base_model
        layers = self.backbone.get_submodule(self.layers)
        self.sites = [
            Sites(
                layer,
                layer.get_submodule(self.attention_output),
                layer.get_submodule(self.ffn_output),
            )
            for layer in layers.children()
        ]
        self.shape = self._shape(block_size)

    def _shape(self, block_size: int) -> LayerShape:
        config, first = self.model.config, self.sites[0]
        hidden, width = projection_weight(first.attention_output).shape
        neurons = {projection_weight(site.ffn_output).shape[1] for site in self.sites}
        if len(neurons) > 1:
            raise EconomyError(
                f"layers of this {self.name} model have FFNs of different widths "
                f"({sorted(neurons)}); give it an adapter of its own (docs/adapters.md)"
            )
        ffn = neurons.pop()
        if not 1 <= block_size <= ffn:
            raise EconomyError(f"block_size = {block_size}: choose 1 to {ffn}, the FFN's neurons")
        heads = config.num_attention_heads
        causal = config.is_decoder if self.decoder is None else self.decoder
        return LayerShape(
            hidden=hidden,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=width // heads,
            ffn=ffn,
            ffn_matrices=3 if self.gated_ffn else 2,
            block_size=block_size,
            causal=bool(causal),
        )


def projection_weight(module: nn.Module) -> Tensor:
    """A projection's weight as (out, in), whether it is a ``Linear`` or GPT-2's ``Conv1D``."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(module, nn.Linear) else weight.T
