"""Complements: what closing several agents costs, against the sum of closing each alone."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from agent_economy.runs.seeds import seed_for
from simulations.valuation.session import Dense, Gates, Session

Agent = tuple[int, int]


def union_tables(session: Session, seed: int) -> dict[str, pd.DataFrame]:
    """Loss of unions of agents, each closed for the whole row, and of their members alone.

    Returns:
        ``unions``: one row per row of text, kind and size. Kinds are heads and blocks drawn from
        all layers, both together, and heads of one layer.
    """
    heads, agents = session.adapter.shape.heads, session.adapter.shape.agents
    layers = range(len(session.adapter.sites))
    all_heads = [(layer, n) for layer in layers for n in range(heads)]
    all_blocks = [(layer, n) for layer in layers for n in range(heads, agents)]
    generator = torch.Generator().manual_seed(seed_for(seed, "unions"))
    layer = int(torch.randint(len(layers), (1,), generator=generator))
    pools = {
        "heads": all_heads,
        "blocks": all_blocks,
        "heads_and_blocks": all_heads + all_blocks,
        "heads_of_one_layer": [each for each in all_heads if each[0] == layer],
    }
    # Sets of one kind are nested, so that few single agents need to be measured.
    order = {
        kind: [pool[i] for i in torch.randperm(len(pool), generator=generator).tolist()]
        for kind, pool in pools.items()
    }
    frames = []
    for dense in session.dense(seed):
        alone: dict[Agent, Tensor] = {}
        for kind, queue in order.items():
            for size in session.config.unions:
                if size > len(queue):
                    continue
                for agent in queue[:size]:
                    if agent not in alone:
                        alone[agent] = session.change_B(dense, _without(session, dense, [agent]))
                together_B = session.change_B(dense, _without(session, dense, queue[:size]))
                parts_B = torch.stack([alone[agent] for agent in queue[:size]]).sum(0)
                frames.append(_frame(dense, kind, size, together_B, parts_B))
    return {"unions": pd.concat(frames, ignore_index=True)}


def _without(session: Session, dense: Dense, closed: list[Agent]) -> Gates:
    """Everybody but these agents, for every token of every row."""
    shape = (*dense.mask_BL.shape, session.adapter.shape.agents)
    gates = [torch.ones(shape, dtype=torch.bool) for _ in session.adapter.sites]
    for layer, agent in closed:
        gates[layer][..., agent] = False
    return gates


def _frame(dense: Dense, kind: str, size: int, together_B: Tensor, parts_B: Tensor) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": kind,
            "size": size,
            "row": (torch.arange(len(together_B)) + dense.first_row).numpy(),
            "together_change": together_B.numpy(force=True),
            "parts_change": parts_B.numpy(force=True),
        }
    )
