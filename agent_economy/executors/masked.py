"""The differentiable reference: everything is computed, gates multiply it.

It saves no time; the receipt counts what a faster executor may leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.errors import EconomyError
from agent_economy.executors.base import Executor, Gatekeeper
from agent_economy.executors.hooks import (
    gate_blocks,
    gate_heads,
    gate_present,
    hooked,
    in_blocks,
    watched,
)

if TYPE_CHECKING:
    from agent_economy.receipt import Receipt

#: Contributions are measured on every fourth token, in a random projection of so many
#: dimensions (Johnson and Lindenstrauss 1984).
STRIDE, _SKETCH = 4, 32


class MaskedExecutor(Executor):
    """Gates as factors before the output projections.

    Args:
        adapter: the architecture.
        measure: whether to measure what each agent adds to the residual stream: the sum over
            tokens of ``|gate * x_n W_n|``, estimated on a sample. (Squared norms would hand nearly
            all income to the few blocks with massive activations.)
        seed: of the random projection.
        pooled: whether only the first token is read after the last layer; what others add there
            is nobody's contribution.
    """

    name = "masked"

    def __init__(
        self, adapter: Adapter, *, measure: bool = False, seed: int = 0, pooled: bool = False
    ) -> None:
        super().__init__(adapter)
        if measure and adapter.present is not None:
            raise EconomyError(
                "what agents add to a compacted model is not measured; found its economy with "
                "another income: wallet={'income': {'name': 'flat'}}"
            )
        self.last = len(adapter.sites) - 1 if pooled else None
        self.sketches = _sketches(adapter, seed) if measure else None

    def run(self, batch: dict[str, Any], market: Gatekeeper) -> tuple[Any, Receipt]:
        """See ``Executor.run``."""
        gates: dict[int, Tensor] = {}
        heads: dict[int, Tensor] = {}
        whole_BL, past = token_mask(batch), cached_tokens(batch)
        mask_BL = whole_BL[:, past:]
        market.open(whole_BL, past)
        if market.needs_trace:
            market.contract(self._foresee(batch, past))

        def on_layer(layer: int, hidden_BLD: Tensor) -> None:
            gate_BLN = market.trade(layer, hidden_BLD)
            gates.clear()
            if gate_BLN is not None:
                gates[layer] = gate_BLN

        def added(layer: int, x: Tensor, weight: Tensor) -> Tensor:
            if layer == self.last:
                return _contribution(x[:, :1], weight, mask_BL[:, :1], past, stride=1)
            return _contribution(x, weight, mask_BL, past, stride=STRIDE)

        def on_heads(layer: int, x: Tensor) -> Tensor:
            if layer in gates:
                x = self._gated(layer, x, gates[layer], heads=True)
            if self.sketches:
                heads[layer] = added(layer, x, self.sketches[layer][0])
            return x

        def on_neurons(layer: int, x: Tensor) -> Tensor:
            if layer in gates:
                x = self._gated(layer, x, gates[layer], heads=False)
            if self.sketches:
                blocks = added(layer, x, self.sketches[layer][1])
                market.served(layer, torch.cat((heads.pop(layer), blocks)))
            return x

        with hooked(self.adapter, on_layer, on_heads, on_neurons):
            output = self.adapter.model(**batch)
        return output, market.close()

    def _gated(self, layer: int, x: Tensor, gate_BLN: Tensor, *, heads: bool) -> Tensor:
        """A layer's heads or neurons times their gates."""
        shape, present = self.adapter.shape, self.adapter.present
        if present is None:
            return gate_heads(x, gate_BLN, shape) if heads else gate_blocks(x, gate_BLN, shape)
        if heads:
            sizes = (shape.head_dim,) * shape.heads
            return gate_present(x, gate_BLN[..., : shape.heads], present[layer][0], sizes)
        return gate_present(x, gate_BLN[..., shape.heads :], present[layer][1], shape.block_sizes)

    @torch.no_grad()
    def _foresee(self, batch: dict[str, Any], past: int) -> list[Tensor]:
        """Hidden states on entry to every layer in a dense pass."""
        if past:
            raise EconomyError(
                "a traced market cannot go on from a cache, which its dense pass would fill twice; "
                "choose timing = 'spot' or 'forward' to decode"
            )
        uncached = {**batch, "use_cache": False} if "use_cache" in batch else batch
        return watched(self.adapter, uncached)[1]


def cached_tokens(batch: dict[str, Any]) -> int:
    """Tokens that a key/value cache holds already."""
    cache = batch.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def token_mask(batch: dict[str, Any]) -> Bool[Tensor, "B L"]:
    """Real tokens of a batch, those in a key/value cache included.

    Raises:
        EconomyError: the mask is not one value per token.
    """
    tokens = batch.get("input_ids")
    if tokens is None:
        tokens = batch["inputs_embeds"][..., 0]
    shape = tokens.shape[0], cached_tokens(batch) + tokens.shape[1]
    mask = batch.get("attention_mask")
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if mask.shape != shape:
        raise EconomyError(
            f"the attention mask has shape {tuple(mask.shape)}, the tokens {shape}; "
            "give one mask value per token, those in the cache included"
        )
    return mask.bool()  # type: ignore[no-any-return]


def _sketches(adapter: Adapter, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Each layer's output weights in the random projection: (H, K, R) and (G, J, R)."""
    shape = adapter.shape
    generator = torch.Generator().manual_seed(seed)
    sketch_DR = torch.randn(shape.hidden, _SKETCH, generator=generator) / _SKETCH**0.5
    slices = []
    for sites in adapter.sites:
        heads = projection_weight(sites.attention_output).detach()
        neurons = projection_weight(sites.ffn_output).detach()
        sketch = sketch_DR.to(heads)
        slices.append(
            (
                (heads.T @ sketch).unflatten(0, (shape.heads, shape.head_dim)),
                in_blocks(neurons.T @ sketch, shape.block_size, 0),
            )
        )
    return slices


def _contribution(x: Tensor, weight: Tensor, mask_BL: Tensor, past: int, *, stride: int) -> Tensor:
    """Sum over real tokens of the norm of what each agent adds, (agents,).

    One token in so many of the sequence is measured, so that prefill and decoding measure the
    same.
    """
    # Slice before anything else: the sample is small, the layer's activations are not.
    sampled = slice(-past % stride, None, stride)
    sample = (x.detach()[:, sampled] * mask_BL[:, sampled, None]).flatten(0, 1)
    parts = in_blocks(sample, weight.shape[1], -1)
    added = torch.bmm(parts.transpose(0, 1), weight)
    norm: Tensor = torch.linalg.vector_norm(added, dim=-1)
    return norm.sum(1) * stride
