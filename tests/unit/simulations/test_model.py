"""A Mesa model of an economy steps through its batches and is freed when nobody uses it."""

from __future__ import annotations

import gc
import weakref

import torch
from models import tiny_model

from agent_economy import Economy
from simulations.model import EconomyModel


def model(batches: int) -> EconomyModel:
    economy = Economy.from_model(
        tiny_model("bert"), block_size=16, budget_fraction=0.5, policy={"name": "random"}
    )
    batch = {"input_ids": torch.ones(2, 4, dtype=torch.long)}
    return EconomyModel(economy, iter([batch] * batches), seed=1)


def test_it_runs_until_the_stream_ends() -> None:
    own = model(2)
    own.run_model()
    assert own.economy.market.step == 2 and not own.running
    assert len(own.agents) == own.economy.population.size
    assert len({agent.unique_id for agent in own.agents}) == len(own.agents)


def test_it_is_freed() -> None:
    own = model(1)
    own.step()
    gone = weakref.ref(own), weakref.ref(own.economy.model)
    del own
    gc.collect()
    assert [each() for each in gone] == [None, None]
