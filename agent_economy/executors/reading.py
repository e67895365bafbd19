"""What of an adapted model's computation is read; see ``costs.reading``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_economy.costs.reading import Reading, reading

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter


def reading_of(adapter: Adapter) -> Reading:
    """Probe the model behind an adapter, two forwards on three tokens.

    A decoder's every token is read, whatever its head: a later forward may go on from any of them.
    """
    config = adapter.model.config
    ends = [
        token
        for key in ("pad_token_id", "eos_token_id")
        for token in _listed(getattr(config, key, None))
    ]
    found = reading(adapter.model, [sites.layer for sites in adapter.sites], avoid=ends)
    return found._replace(pooled=found.pooled and not adapter.shape.causal)


def _listed(tokens: int | list[int] | None) -> list[int]:
    """The ids of a config's entry: one, several or none."""
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]
