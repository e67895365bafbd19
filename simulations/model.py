"""Time in an economy: a Mesa model whose step is one batch through the transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from mesa import Agent, Model
from mesa.datacollection import DataCollector

from agent_economy import Economy
from agent_economy.agents.mesa_agents import create_agents
from agent_economy.receipt import Receipt

_JOURNAL_STEPS = 512
"""Steps after which the ledger's journal is forgotten."""


class EconomyModel(Model):
    """Runs a stream of batches, one a step, through an economy.

    Every head and neuron block is a Mesa agent: ``model.agents.select(...)`` can mute it, tax it,
    or give it another policy between steps.

    Memory does not grow with steps: reporters' values apart, nothing of a step is kept but the last
    output and receipt. The ledger's journal is emptied every 512 steps; whoever wants all of it
    drains it oftener.

    Args:
        economy: the economy.
        stream: batches; the model stops running when they end.
        seed: of Mesa's own random numbers.
        reporters: model-level values to collect each step, as for ``DataCollector``.

    Attributes:
        output: the last batch's model output.
        receipt: what the last batch executed.
    """

    output: Any
    receipt: Receipt

    def __init__(
        self,
        economy: Economy,
        stream: Iterator[dict[str, Any]],
        seed: int,
        reporters: dict[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        super().__init__(seed=seed)
        self.economy, self.stream = economy, stream
        create_agents(self, economy.population, economy.ledger)
        let_go(self)
        self.datacollector = DataCollector(model_reporters=reporters or {})

    def step(self) -> None:
        """One forward; the economy settles, reporters collect."""
        batch = next(self.stream, None)
        if batch is None:
            self.running = False
            return
        with torch.no_grad():
            self.output = self.economy(**batch)
        self.receipt = self.output.receipt
        self.datacollector.collect(self)
        if self.steps % _JOURNAL_STEPS == 0:
            self.economy.ledger.journal(drain=True)


def let_go(model: Model) -> None:
    """Let a model be freed once nobody uses it, after all of its agents were created.

    Mesa 3 numbers agents by a table for the whole process that keeps every model in it for good.
    """
    getattr(Agent, "_ids", {}).pop(model, None)
