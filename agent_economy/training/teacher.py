"""The dense model's outputs for every training row, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from agent_economy.training.batches import Rows, in_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from agent_economy.adapters import Adapter


class Teacher:
    """What a student is drawn to.

    Args:
        model: the dense model, in evaluation mode while it teaches.
        adapter: of that model.
        rows: the training rows.
        layers: whose hidden states on entry are kept, as bfloat16; none to keep predictions only.
        device: where the model is.
        predictions: whether to keep those, too.
        batch_size: rows at a time.

    Attributes:
        logits_RC: predictions for each row; nothing where they are not kept (a decoder's next-token
            distributions would fill the memory).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: Adapter,
        rows: Rows,
        layers: list[int],
        device: torch.device,
        *,
        predictions: bool = True,
        batch_size: int = 64,
    ) -> None:
        self.layers = layers
        found: dict[int, Tensor] = {}
        self._hidden: list[list[Tensor]] = [[torch.empty(0)] * len(rows) for _ in layers]
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), entries(layer_modules(adapter, model), layers) as seen:
                for chosen in in_order(rows.lengths_B, batch_size):
                    inputs, _ = rows.batch(chosen, device)
                    logits = model(**inputs).logits
                    logits_BC = logits.float().cpu() if predictions else torch.zeros(len(chosen), 1)
                    lengths = inputs["attention_mask"].sum(1).tolist()
                    for place, row in enumerate(chosen):
                        found[int(row)] = logits_BC[place]
                        for kept, hidden_BLD in zip(self._hidden, seen, strict=True):
                            own_LD = hidden_BLD[place, : lengths[place]]
                            # A view would keep its whole batch alive.
                            kept[int(row)] = own_LD.to("cpu", torch.bfloat16, copy=True)
        finally:
            model.train(was_training)
        self.logits_RC = torch.stack([found[row] for row in range(len(rows))])

    def hidden(self, chosen: np.ndarray[Any, np.dtype[np.int64]]) -> list[Tensor]:
        """Padded hidden states (B, L, D) of the rows, one per kept layer."""
        return [pad_sequence([kept[row] for row in chosen], True) for kept in self._hidden]


def layer_modules(adapter: Adapter, model: PreTrainedModel) -> list[nn.Module]:
    """The layers of a model that has the adapter's architecture."""
    return list(model.base_model.get_submodule(adapter.layers).children())


@contextmanager
def entries(layers: list[nn.Module], wanted: list[int]) -> Iterator[list[Tensor]]:
    """What enters the wanted layers, filled in by every forward."""
    seen: list[Tensor] = [torch.empty(0)] * len(wanted)

    def watch(place: int) -> Any:
        def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[place] = args[0] if args else kwargs["hidden_states"]

        return call

    handles = [
        layers[layer].register_forward_pre_hook(watch(place), with_kwargs=True)
        for place, layer in enumerate(wanted)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
