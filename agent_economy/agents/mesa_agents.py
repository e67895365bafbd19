"""Mesa agents as views onto the population: Mesa's idioms, the tensors' memory."""

from __future__ import annotations

from typing import cast

import torch
from mesa import Agent, Model
from mesa.agent import AgentSet

from agent_economy.agents.checks import credits_amount
from agent_economy.agents.ledger import Ledger
from agent_economy.agents.population import AgentKind, Population
from agent_economy.errors import EconomyError


class TransformerAgent(Agent):  # type: ignore[misc]
    """One row of a population, seen as a Mesa agent; it stores nothing that changes.

    Reading or setting a property reads or writes the tensors at that row, so
    ``model.agents.select(lambda a: a.layer == 2).set("muted", True)`` mutes a layer. Each access
    reads the device: use the population's tensors for whole columns in a step.

    Args:
        model: the Mesa model it belongs to.
        row: its row in the population.
        population: where its state lives.
        ledger: where its wallet lives.

    Attributes:
        row: its row in the population.
        layer: its layer in the transformer.
        kind: head or neuron block.
        index: its number among the agents of its kind in its layer.
    """

    def __init__(self, model: Model, row: int, population: Population, ledger: Ledger) -> None:
        super().__init__(model)
        self._population, self._ledger = population, ledger
        self.row = row
        self.layer, agent = divmod(row, population.agents_per_layer)
        self.kind = AgentKind.HEAD if agent < population.heads else AgentKind.BLOCK
        self.index = agent if self.kind is AgentKind.HEAD else agent - population.heads

    @property
    def name(self) -> str:
        """Its name for readers, as in ``"L2 head 7"``."""
        return self._population.name(self.row)

    @property
    def wallet(self) -> float:
        """Its credits. Setting them posts a grant or a confiscation, so credits are conserved.

        Raises:
            EconomyError: set to a negative number or one that is not finite.
        """
        return float(self._ledger.wallet_A[self.row])

    @wallet.setter
    def wallet(self, credits: float) -> None:
        change = credits_amount("wallet", credits) - self.wallet
        amount_A = torch.zeros_like(self._ledger.wallet_A)
        amount_A[self.row] = abs(change)
        post = self._ledger.grant if change > 0 else self._ledger.confiscate
        post(amount_A)

    @property
    def muted(self) -> bool:
        """Whether it is kept out of the market."""
        return bool(self._population.muted_A[self.row])

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._population.mute(self.row, muted)

    @property
    def bankrupt(self) -> bool:
        """Whether it left the market insolvent; setting False gives it a fresh start."""
        return bool(self._population.bankrupt_A[self.row])

    @bankrupt.setter
    def bankrupt(self, bankrupt: bool) -> None:
        self._population.set_bankrupt(self.row, bankrupt)

    @property
    def tax_rate(self) -> float:
        """Share of its wallet taken in every step, in [0, 1]."""
        return float(self._population.tax_rate_A[self.row])

    @tax_rate.setter
    def tax_rate(self, rate: float) -> None:
        self._population.set_tax_rate(self.row, rate)

    @property
    def policy(self) -> object | None:
        """The policy by which it bids, None if it does not."""
        return self._population.policy(self.row)

    @policy.setter
    def policy(self, policy: object | None) -> None:
        if policy is not None and not hasattr(policy, "bid"):
            raise EconomyError(f"{policy!r} is no policy; give an object with a bid method")
        self._population.assign_policy(self.row, policy)

    @property
    def payment(self) -> float:
        """Credits it paid for compute in the last step."""
        return float(self._population.payment_A[self.row])

    @property
    def income(self) -> float:
        """Credits of income it got in the last step."""
        return float(self._population.income_A[self.row])

    @property
    def served(self) -> float:
        """Tokens it served in the last step."""
        return float(self._population.served_A[self.row])

    @property
    def contribution(self) -> float:
        """What its work was worth in the last step."""
        return float(self._population.contribution_A[self.row])


class HeadAgent(TransformerAgent):
    """An attention head."""


class NeuronBlockAgent(TransformerAgent):
    """A block of FFN neurons."""


def create_agents(model: Model, population: Population, ledger: Ledger) -> AgentSet:
    """Register one Mesa agent per row of the population with a model, in row order.

    Args:
        model: the Mesa model, after its ``super().__init__()``.
        population: the rows.
        ledger: their wallets.

    Returns:
        the agents created; ``model.agents`` and ``model.agents_by_type`` hold them too.
    """
    agents: list[TransformerAgent] = []
    for row in range(population.size):
        is_head = row % population.agents_per_layer < population.heads
        kind = HeadAgent if is_head else NeuronBlockAgent
        agents.append(kind(model, row, population, ledger))
    return cast(AgentSet, AgentSet(agents, random=model.random))
