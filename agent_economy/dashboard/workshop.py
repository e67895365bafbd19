"""The heavy part of a live page, done once for all its visitors: model, texts, fitted policies."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.agents.income import INCOME_RULES
from agent_economy.config import MechanismConfig, Named
from agent_economy.dashboard.comparison import Comparer, comparer_for
from agent_economy.dashboard.setting import Setting
from agent_economy.errors import EconomyError
from agent_economy.executors.ablation import first_order_value, measure_ablations
from agent_economy.executors.trace import read_ahead, trace
from agent_economy.mechanisms import MECHANISMS
from agent_economy.members import build_mechanism, build_policy, causal_markets
from agent_economy.policies import POLICIES, Ablations, Policy, Trace
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.text import sample_texts
from agent_economy.zoo import load

if TYPE_CHECKING:
    from agent_economy.config import WalletConfig

Batch = dict[str, Any]

#: whole allocations measured per batch for policies that learn from them: few, somebody waits
_DRAWS = 8


class Workshop:
    """A model and its texts, and the policies that were fitted on them.

    All visitors share the model, so whoever runs it holds `lock`: gates are hooks on its modules.

    Args:
        setting: what the economy starts from.

    Raises:
        EconomyError: unknown model, text, mechanism, policy or income rule, or a model with a task
            head.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.lock = setting, RLock()
        POLICIES.get(setting.policy)
        INCOME_RULES.get(setting.wallet.income.name)
        build_mechanism(setting.mechanism)
        self.loaded = load(setting.model)
        self.model = self.loaded.model
        self.adapter = adapter_for(self.model, setting.block_size)
        wanted = setting.pool_texts + setting.calibration_texts
        texts = sample_texts(setting.text, wanted, seed_for(setting.seed, "texts"))
        self.texts, calibration = texts[: setting.pool_texts], texts[setting.pool_texts :]
        self.pool, self.calibration = self._batches(self.texts), self._batches(calibration)
        self.comparer: Comparer = comparer_for(self.loaded, self.pool, self.texts)
        self._fitted: dict[tuple[str, bool], Policy] = {}
        self.policy(setting.policy)  # so that no visitor waits for it

    # --- what can be chosen --------------------------------------------------------------------

    @cached_property
    def mechanisms(self) -> dict[str, MechanismConfig]:
        """Every mechanism that the model can have, in the setting's scope where it knows it."""
        asked = self.setting.mechanism
        allowed = causal_markets() if self.adapter.shape.causal else None
        found = {}
        for name, member in MECHANISMS.members().items():
            scopes = [each for each in member.scopes if not allowed or (name, each) in allowed]
            if not scopes:
                continue
            scope = asked.scope if asked.scope in scopes else scopes[0]
            options = asked.options if name == asked.name else {}
            terms = MechanismConfig(name=name, scope=scope, timing=asked.timing, options=options)
            found[name] = terms
        return found

    @cached_property
    def policies(self) -> list[str]:
        """Every policy that can be fitted here."""
        return list(POLICIES.members())

    @cached_property
    def incomes(self) -> list[str]:
        """Every income rule."""
        return list(INCOME_RULES.members())

    def income(self, name: str) -> Named:
        """An income rule, with the setting's options where it is the setting's own."""
        own = self.setting.wallet.income
        return own if name == own.name else Named(name=name)

    # --- what is made --------------------------------------------------------------------------

    def economy(self, *, supply: float, mechanism: str, policy: str, income: str) -> Economy:
        """A fresh economy; wallets, prices and what policies learn from their bids start anew."""
        # Founded with wages, so that contributions are measured whatever rule is chosen later on.
        wallet: WalletConfig = self.setting.wallet.model_copy(
            update={"income": Named(name="contribution")}
        )
        economy = Economy.from_model(
            self.model,
            block_size=self.setting.block_size,
            budget_fraction=supply,
            mechanism=self.mechanism(mechanism).model_dump(),
            policy={"name": "constant"},
            wallet=wallet.model_dump(),
            seed=seed_for(self.setting.seed, "economy"),
        )
        economy.set_policy(self.policy(policy))
        return economy

    def mechanism(self, name: str) -> MechanismConfig:
        """The terms of a mechanism.

        Raises:
            EconomyError: it is unknown, or looks ahead on a decoder.
        """
        if name not in self.mechanisms:
            MECHANISMS.get(name)
            raise EconomyError(
                f"mechanism {name!r} looks at later tokens, but {self.adapter.name} is a decoder; "
                f"choose {' or '.join(self.mechanisms)}"
            )
        return self.mechanisms[name]

    def policy(self, name: str) -> Policy:
        """A fitted policy; a copy, since what it learns from its bids belongs to one economy."""
        ahead = self.setting.mechanism.timing == "forward"
        with self.lock:
            if (name, ahead) not in self._fitted:
                policy = build_policy(Named(name=name), self.setting.seed)
                measured = self._trace, self._ablations if policy.needs_ablations else None
                policy.fit(*(read_ahead(*measured) if ahead else measured))
                self._fitted[name, ahead] = policy
            return deepcopy(self._fitted[name, ahead])

    def encode(self, sentence: str) -> Batch:
        """One row; of a long sentence the first part.

        Raises:
            EconomyError: there is nothing in it.
        """
        if not sentence.strip():
            raise EconomyError("type a sentence: there is nothing to read")
        return self._rows([sentence])

    def tokens(self, batch: Batch) -> list[str]:
        """The tokens of a single row, as a reader wants them."""
        names = self.loaded.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        return [str(name).replace("Ġ", "").replace("▁", "") or "␣" for name in names]

    def stream(self, step: int) -> Batch:
        """The batch of a step; the texts go round."""
        return self.pool[step % len(self.pool)]

    # --- parts ---------------------------------------------------------------------------------

    @cached_property
    def _trace(self) -> Trace:
        setting, loss = self.setting, self.comparer.utility.loss
        draws = seed_for(setting.seed, "trace")
        return trace(self.adapter, self.calibration, loss, probes=setting.probes, seed=draws)

    @cached_property
    def _ablations(self) -> Ablations:
        return measure_ablations(
            self.adapter,
            self.calibration,
            self.comparer.utility,
            draws=_DRAWS,
            seed=seed_for(self.setting.seed, "ablations"),
            value=first_order_value(self._trace),
        )

    def _batches(self, texts: list[str]) -> list[Batch]:
        """Texts in batches of one row each, cut off where a row ends."""
        size = self.setting.batch_size
        return [self._rows(texts[row : row + size]) for row in range(0, len(texts), size)]

    @torch.no_grad()
    def _rows(self, texts: list[str]) -> Batch:
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        encoded = encode(self.loaded.tokenizer, texts, self.setting.max_tokens, positions)
        first = [encoded.text_of_row.index(text) for text in range(len(texts))]
        length = max(int(encoded["attention_mask"][first].sum(1).max()), 1)
        device = next(self.model.parameters()).device
        return {key: value[first, :length].to(device) for key, value in encoded.items()}
