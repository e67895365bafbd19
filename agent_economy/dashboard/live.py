"""A Mesa model on a page: it can be steered while it runs, and read at any time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from mesa import Model
from mesa.datacollection import DataCollector

from agent_economy.agents.checks import share
from agent_economy.agents.income import INCOME_RULES
from agent_economy.agents.mesa_agents import create_agents
from agent_economy.dashboard.charts import in_short
from agent_economy.dashboard.reading import Array, Reading, read_sentence
from agent_economy.dashboard.workshop import Workshop
from agent_economy.metrics.inequality import gini
from agent_economy.registry import build
from agent_economy.runs.seeds import seed_for

#: who stands for the poor, the middle and the rich in a wallet plot
WEALTH = (0.1, 0.5, 0.9)


class Terms(NamedTuple):
    """What a visitor can choose while the economy runs.

    Attributes:
        supply: as a fraction of dense agent FLOPs.
        mechanism: name of the mechanism.
        policy: name of the policy of all agents.
        income: name of the income rule.
    """

    supply: float
    mechanism: str
    policy: str
    income: str


class LiveEconomy(Model):  # type: ignore[misc]
    """A stream of texts through an economy, and a sentence that is read after every step.

    The stream moves credits and prices; the sentence is served by the market as it stands and
    forgotten, so that typing costs nobody anything.

    Args:
        workshop: the model, shared with other visitors.
        supply: see `Terms`; the setting's where None, as for the next three.
        mechanism: see `Terms`.
        policy: see `Terms`.
        income: see `Terms`.
        sentence: what is read; the setting's where None.

    Attributes:
        terms: what holds now.
        sentence: what is read.
        reading: what the market did with it, last time.
        datacollector: one row per step: ``price_Y``, ``wallet_Q`` (the quantiles of `WEALTH`),
            ``gini``, ``spend_fraction`` and ``value`` (of the sentence, against dense).
    """

    def __init__(
        self,
        workshop: Workshop,
        supply: float | None = None,
        mechanism: str | None = None,
        policy: str | None = None,
        income: str | None = None,
        sentence: str | None = None,
    ) -> None:
        setting = workshop.setting
        super().__init__(seed=seed_for(setting.seed, "mesa") % 2**31)
        self.workshop = workshop
        self.terms = Terms(
            setting.supply if supply is None else supply,
            mechanism or setting.mechanism.name,
            policy or setting.policy,
            income or setting.wallet.income.name,
        )
        with workshop.lock:
            self.economy = workshop.economy(**self.terms._asdict())
            self._set_income(self.terms.income)
            create_agents(self, self.economy.population, self.economy.ledger)
            self.price_Y: Array | None = None
            self.spend_fraction = float("nan")
            self.datacollector = DataCollector(model_reporters=_REPORTERS)
            self.read(setting.sentence if sentence is None else sentence)

    def step(self) -> None:
        """One batch of the stream; credits move, prices follow, the sentence is read anew."""
        with self.workshop.lock:
            with torch.no_grad():
                receipt = self.economy(**self.workshop.stream(self.steps - 1)).receipt
            mean_Y = receipt.price_YBL[:, receipt.mask_BL].mean(1)
            self.price_Y = mean_Y.double().numpy(force=True)
            self.spend_fraction = receipt.flops_fraction
            self._tokens = int(receipt.mask_BL.sum())
            self.read(self.sentence)
            self.datacollector.collect(self)

    def read(self, sentence: str) -> Reading:
        """Let the market as it stands serve a sentence.

        Raises:
            EconomyError: the sentence is empty; the last reading stays.
        """
        with self.workshop.lock:
            batch = self.workshop.encode(sentence)
            if getattr(self, "sentence", None) != sentence:
                with torch.no_grad():
                    self._dense: Any = self.workshop.model(**batch)
            self.reading = read_sentence(self.workshop, self.economy, sentence, self._dense)
            self.sentence = sentence
        return self.reading

    def change(self, **terms: Any) -> None:
        """Change supply, mechanism, policy or income rule, from the next step on.

        Wallets stay. A new mechanism starts without memory, a new policy as it was fitted. The
        sentence is read anew.

        Args:
            terms: fields of `Terms`.

        Raises:
            EconomyError: a name is unknown, or does not fit the model; nothing is changed then.
        """
        wanted = self.terms._replace(**terms)
        with self.workshop.lock:
            mechanism = self.workshop.mechanism(wanted.mechanism)
            INCOME_RULES.get(wanted.income)
            share("supply", wanted.supply)
            if wanted.policy != self.terms.policy:
                self.economy.set_policy(self.workshop.policy(wanted.policy))
            if wanted.mechanism != self.terms.mechanism:
                self.economy.set_mechanism(mechanism)
            self.economy.market.budget_fraction = wanted.supply
            self._set_income(wanted.income)
            self.terms = wanted
            self.read(self.sentence)

    @property
    def wallet_YN(self) -> Array:
        """Every agent's credits."""
        ledger, population = self.economy.ledger, self.economy.population
        wallet: Array = population.by_layer(ledger.wallet_A).numpy(force=True).copy()
        return wallet

    @property
    def served_YN(self) -> Array:
        """The share of the last step's tokens that each agent served; 0 before the first."""
        population = self.economy.population
        served: Array = population.by_layer(population.served_A).numpy(force=True)
        return served / max(getattr(self, "_tokens", 0), 1)

    @property
    def wallet_Q(self) -> Array:
        """Credits of the poor, the middle and the rich."""
        quantiles: Array = np.quantile(self.wallet_YN, WEALTH)
        return quantiles

    @property
    def gini(self) -> float:
        """How unequal wallets are."""
        return float(gini(self.economy.ledger.wallet_A))

    @property
    def heads(self) -> int:
        """Attention heads in a layer; they are its first agents."""
        return int(self.economy.population.heads)

    def numbers(self) -> dict[str, str]:
        """What a visitor wants to know first, by what it is."""
        reading = self.reading
        assert reading.comparison is not None
        return {
            f"sentence, {reading.comparison.unit}": f"{reading.comparison.value:.3f}",
            "sentence, of dense FLOPs": f"{reading.flops_fraction:.1%}",
            "agents served, mean over tokens": f"{reading.bought_share:.1%}",
            "credits per GFLOP, mean": in_short(float(np.nanmean(reading.price_YL))),
            "Gini of wallets": f"{self.gini:.3f}",
            "steps": str(self.steps),
        }

    def history(self, name: str, last: int = 200) -> list[Any]:
        """The latest values of a reporter, oldest first; a page draws no more than a screenful."""
        values: list[Any] = self.datacollector.model_vars[name][-last:]
        return values

    def _set_income(self, name: str) -> None:
        market = self.economy.market
        rule = build(INCOME_RULES, self.workshop.income(name))
        market.settlement = replace(market.settlement, income=rule)


_REPORTERS = {
    "step": "steps",
    "price_Y": "price_Y",
    "wallet_Q": "wallet_Q",
    "gini": "gini",
    "spend_fraction": "spend_fraction",
    "value": lambda model: model.reading.comparison.value,
}
