"""One attention for every architecture: any number of heads, none included.

The architectures' own modules count on the config's number of heads, on as many query heads for
each key/value head, and some on position biases for all heads; a compacted layer has none of that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent_economy.compaction.first_token import Whole
from agent_economy.compaction.kept import Kept


class CompactAttention(nn.Module):
    """Attention of the heads that stay.

    Queries, keys and values come out of one matrix. With ``h`` heads that read ``u`` key/value
    heads it is ``(h + 2u) * K`` wide; keys and values are cached once, however many heads read
    them.

    Args:
        kept: what stays of the layer.
        projection: queries, keys and values; None where no head stays.
        output: output projection and dropout, where they belong to the attention module; None
            where the layer applies them itself.
        replaced: the architecture's own module, for its config, scaling and place in a cache.
        dropout: of attention weights, while training.
    """

    head_index: Tensor | None
    kv_index: Tensor | None

    def __init__(
        self,
        kept: Kept,
        projection: nn.Linear | None,
        output: nn.Module | None,
        replaced: nn.Module,
        dropout: float,
    ) -> None:
        nn.Module.__init__(self)
        self.heads, self.kv_heads = len(kept.heads), len(kept.kv_heads)
        self.head_dim = kept.shape.head_dim
        self.projection, self.output = projection, output
        self.config = getattr(replaced, "config", None)
        self.scaling: float = getattr(replaced, "scaling", self.head_dim**-0.5)
        self.layer_idx = getattr(replaced, "layer_idx", None)
        self.is_causal = bool(getattr(replaced, "is_causal", False))
        self.attention_dropout = dropout
        everybody = self.heads == kept.shape.heads
        alone = kept.kv_of_head == tuple(range(self.heads))
        # Buffers that are saved: what is not would come back unset from a model made on "meta".
        self.register_buffer("head_index", None if everybody else torch.tensor(kept.heads).long())
        self.register_buffer("kv_index", None if alone else torch.tensor(kept.kv_of_head))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | Whole | None = None,
        position_bias: Tensor | None = None,
        *,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Any = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As the architecture's own attention: (B, L, D) -> (B, L, D or h * K), weights.

        Args:
            hidden_states: (B, L, D); one token where the mask is a ``Whole``.
            attention_mask: as the architecture makes it; or it and the whole sequence.
            position_bias: (B, H, L, L), added to the scores of all the layer's heads.
            position_embeddings: cosine and sine of rotary positions.
            past_key_values: cache to read and extend.
            output_attentions: whether weights are asked for in this very call.
            kwargs: for the attention function.
        """
        cache = getattr(past_key_values, "self_attention_cache", past_key_values)
        if self.projection is None:
            return self._nothing(hidden_states, cache)
        context_BLD = None
        if isinstance(attention_mask, Whole):
            context_BLD, attention_mask = attention_mask
            attention_mask = None if attention_mask is None else attention_mask[:, :, :1]
        query, key, value = self._project(hidden_states, context_BLD)
        if position_embeddings is not None:
            from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

            query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        if self.kv_index is not None:
            key, value = key.index_select(1, self.kv_index), value.index_select(1, self.kv_index)
        if position_bias is not None:
            bias = self._own_bias(position_bias, query.shape[2])
            attention_mask = bias if attention_mask is None else bias + attention_mask
        kwargs.pop("encoder_hidden_states", None)
        mixed_BLHK, weights = self._function(output_attentions)(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        mixed_BLW = mixed_BLHK.flatten(2)
        return (mixed_BLW if self.output is None else self.output(mixed_BLW)), weights

    def _project(
        self, hidden_BLD: Tensor, context_BLD: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, h, L, K), keys and values (B, u, L, K), the latter from a wider context."""
        assert self.projection is not None
        h, u, width = self.heads, self.kv_heads, self.head_dim
        if context_BLD is None:
            all_BLSK = self.projection(hidden_BLD).unflatten(-1, (h + 2 * u, width))
            query, key, value = all_BLSK.transpose(1, 2).split((h, u, u), 1)
            return query, key, value
        weights = self.projection.weight.split((h * width, 2 * u * width))
        biases: Any = (None, None)
        if self.projection.bias is not None:
            biases = self.projection.bias.split((h * width, 2 * u * width))
        query = functional.linear(hidden_BLD, weights[0], biases[0]).unflatten(-1, (h, width))
        both = functional.linear(context_BLD, weights[1], biases[1]).unflatten(-1, (2 * u, width))
        key, value = both.transpose(1, 2).chunk(2, 1)
        return query.transpose(1, 2), key, value

    def _own_bias(self, position_bias: Tensor, queries: int) -> Tensor:
        """Biases of the heads that stay, (1, h, queries, L); they are the same for every row."""
        bias = position_bias[:1, :, :queries]
        return bias if self.head_index is None else bias.index_select(1, self.head_index)

    def _function(self, output_attentions: bool) -> Any:
        """The attention function that the model's config names."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        if self.config is None:  # an architecture that computes its own: weights only on demand
            return _eager if output_attentions else ALL_ATTENTION_FUNCTIONS["sdpa"]
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, _eager)

    def _nothing(self, hidden_BLD: Tensor, cache: Any) -> tuple[Tensor, None]:
        """No head is left: nothing is mixed, and what stands for the output adds its bias."""
        if cache is not None:
            # Caches tell their length by their first layer, so a placeholder must grow with them.
            token_B1L1 = hidden_BLD.new_zeros(hidden_BLD.shape[0], 1, hidden_BLD.shape[1], 1)
            cache.update(token_B1L1, token_B1L1, self.layer_idx)
        unread_BL1 = hidden_BLD[..., :1]
        return (unread_BL1 if self.output is None else self.output(unread_BL1)), None


def compact_kind(replaced: nn.Module) -> type[CompactAttention]:
    """``CompactAttention`` as a kind of the attention it replaces.

    Transformers records attention weights by the class of the module that returns them.
    """
    kind = type(replaced)
    if kind not in _KINDS:
        _KINDS[kind] = type("CompactAttention", (CompactAttention, kind), {})
    return _KINDS[kind]


_KINDS: dict[type[nn.Module], type[CompactAttention]] = {}


def _eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention that shows its weights; one key/value head per head."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = functional.dropout(weights, dropout, training=module.training)
    return (weights @ value).transpose(1, 2), weights
