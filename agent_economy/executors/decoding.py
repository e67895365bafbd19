"""Greedy decoding with a key/value cache, for whatever runs a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from agent_economy.errors import EconomyError

#: inputs of the model -> its output, with logits and the cache
Step = Callable[[dict[str, Any]], Any]


@torch.no_grad()
def decode_greedily(step: Step, ids_BL: Int[Tensor, "B L"], new_tokens: int) -> Int[Tensor, "B M"]:
    """Continue prompts of one length by their likeliest tokens: one prefill, then one by one.

    Every executor decodes alike::

        decode_greedily(lambda batch: model(**batch), ids_BL, 32)
        decode_greedily(lambda batch: economy(**batch), ids_BL, 32)
        decode_greedily(lambda batch: routed.run(batch, economy.market)[0], ids_BL, 32)

    Args:
        step: runs a batch, that may go on from ``past_key_values``, and fills a cache.
        ids_BL: prompts.
        new_tokens: how many follow; ends of text are not looked for.

    Returns:
        Prompts and what follows them.

    Raises:
        EconomyError: nothing to decode, or a model without a language-model head or a cache.
    """
    if new_tokens < 1 or not ids_BL.numel():
        raise EconomyError(
            f"cannot decode {new_tokens} tokens after {tuple(ids_BL.shape)} ids; "
            "give a prompt of at least one token, and at least one token to follow"
        )
    batch: dict[str, Any] = {"input_ids": ids_BL, "use_cache": True}
    found = [ids_BL]
    for _ in range(new_tokens):
        output = step(batch)
        cache = getattr(output, "past_key_values", None)
        if getattr(output, "logits", None) is None or cache is None:
            raise EconomyError(
                "this model gives no logits or no cache; load a decoder with its language-model "
                "head (AutoModelForCausalLM)"
            )
        found.append(output.logits[:, -1:].argmax(-1))
        batch = {"input_ids": found[-1], "past_key_values": cache, "use_cache": True}
    return torch.cat(found, 1)
