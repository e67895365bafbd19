"""A physically smaller model: only the agents of a static plan exist."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from jaxtyping import Bool
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.compaction.config import compacted_config
from agent_economy.compaction.cutting import check_sliceable, cut
from agent_economy.compaction.kept import kept_agents
from agent_economy.compaction.models import compacted
from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def shrink(
    adapter: Adapter, plan_YN: Bool[Tensor, "Y N"], *, first_only: bool = False
) -> PreTrainedModel:
    """A smaller copy of the adapter's model, with the same inputs and outputs.

    It has no gates and no hooks, and computes what the masked model computes under the plan. Its
    parameters are ordinary and can be trained; ``write_back`` takes them home.

    Args:
        adapter: the model, which is left as it is.
        plan_YN: (Y, N) agents that serve every token; heads first, then neuron blocks.
        first_only: compute the last layer for the first token only (keys and values for all).
            For encoders of which nothing else is read, such as classifiers of the pooled token;
            the last hidden state is then one token long.

    Raises:
        EconomyError: the plan does not fit; the adapter does not say where weights are sliced;
            the model is compacted already;
            ``first_only`` on a decoder, of which the last token is read.
    """
    check_sliceable(adapter)
    if adapter.present is not None:
        raise EconomyError(
            "this model was compacted already; compact the economy that it was made of"
        )
    kept = kept_agents(plan_YN, adapter.shape, len(adapter.sites))
    model, config = adapter.model, compacted_config(adapter, kept, first_only=first_only)
    # The copy's modules all refer to the new config, as they do to the old one in the model.
    copied = copy.deepcopy(model, {id(model.config): config})
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        # Transformers would take its hooks that record hidden states for installed.
        module.__dict__.pop("_output_capturing_hooks_installed", None)
    cut(type(adapter)(copied, adapter.shape.block_size), kept, first_only=first_only)
    return compacted(copied)
