"""The front door: a pretrained model with an economy inside."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from agent_economy.agents.bankruptcy import BANKRUPTCY_RULES
from agent_economy.agents.income import INCOME_RULES
from agent_economy.agents.ledger import Ledger
from agent_economy.agents.population import Population
from agent_economy.agents.settlement import Settlement
from agent_economy.config import EconomyConfig, LatencyConfig, MechanismConfig
from agent_economy.economy import saving
from agent_economy.economy.calibration import calibrate
from agent_economy.economy.state import restore, state_of
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.reading import reading_of
from agent_economy.executors.trace import ProbeLoss, trace
from agent_economy.latencies import budget_share, charged
from agent_economy.market import Market
from agent_economy.members import build_policy, mechanism_for
from agent_economy.policies import Policy, Trace
from agent_economy.registry import build
from agent_economy.runs.seeds import seed_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from agent_economy.tasks.utility import Utility


class Economy(nn.Module):
    """A model whose heads and neuron blocks buy the compute they use.

    Call it as the model itself: the output is the model's own, with the forward's ``receipt``
    added to it.

    Example:
        >>> economy = Economy.from_model(model, EconomyConfig(budget_fraction=0.5))
        >>> economy.calibrate(batches, loss)
        >>> output = economy(**batch)
        >>> output.receipt.flops_fraction
        0.497...

    Attributes:
        model: the pretrained model, unchanged.
        config: what the economy was made from, and the mechanism that it has now.
        adapter: where agents live in the model.
        population: the agents, as a struct of arrays.
        ledger: their credits.
        market: what clears, and its state between forwards.
    """

    def __init__(self, model: PreTrainedModel, config: EconomyConfig) -> None:
        from agent_economy.compaction.adapter import absent_agents, adapter_of

        super().__init__()
        self.model, self.config = model, config
        self.adapter = adapter_of(model, config.block_size)
        self.adapter.shape = charged(self.adapter.shape, config.latency)
        shape, layers = self.adapter.shape, len(self.adapter.sites)
        found = reading_of(self.adapter)
        mechanism = mechanism_for(self.adapter, config.mechanism)
        device = next(model.parameters()).device
        self.population = Population(layers, shape.heads, shape.agents - shape.heads, device)
        self.ledger = Ledger(self.population, config.wallet.endowment_credits)
        self.ledger.open()
        income = config.wallet.income
        settlement = Settlement(
            self.ledger,
            build(INCOME_RULES, income),
            build(BANKRUPTCY_RULES, config.wallet.bankruptcy),
        )
        self.market = Market(
            shape,
            settlement,
            mechanism,
            found,
            config.seed,
            config.mechanism.timing,
        )
        self.market.budget_fraction = config.budget_fraction
        if config.budget_ms is not None:
            self.market.budget_fraction = self.budget_share(config.budget_ms)
        # Measuring contributions costs time; only this income rule reads them.
        measure = income.name == "contribution"
        seed = seed_for(config.seed, "sketch")
        self.executor = MaskedExecutor(
            self.adapter, measure=measure, seed=seed, pooled=found.pooled
        )
        self.is_open = True
        #: the timing for which policies were calibrated here; None before
        self.calibrated_for: str | None = None
        self.set_policy(build_policy(config.policy, config.seed))
        if self.adapter.present is not None:
            self.population.mute(absent_agents(self.adapter).flatten().to(device))

    @classmethod
    def from_model(
        cls, model: PreTrainedModel, config: EconomyConfig | None = None, **changes: Any
    ) -> Self:
        """Found an economy inside a model.

        Args:
            model: a Hugging Face model whose architecture has an adapter.
            config: how the economy works; defaults where None.
            changes: fields of the config to set instead, as in ``budget_fraction=0.5``.

        Raises:
            EconomyError: unknown architecture, mechanism, policy or rule; a value out of range;
                a mechanism that looks ahead on a decoder.
        """
        from pydantic import ValidationError

        base = (config or EconomyConfig()).model_dump()
        try:
            return cls(model, EconomyConfig.model_validate({**base, **changes}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise EconomyError(f"economy config: {key}: {first['msg']}") from error

    # --- running -----------------------------------------------------------------------------

    def forward(self, *inputs: Any, **batch: Any) -> Any:
        """The model's own output; with ``receipt`` as an attribute, or last in a tuple.

        Inside ``closed()`` it is the bare model's output and nothing else.
        """
        if not self.is_open:
            return self.model(*inputs, **batch)
        if inputs:
            batch = inspect.signature(self.model.forward).bind_partial(*inputs).arguments | batch
        output, receipt = self.executor.run(batch, self.market)
        if isinstance(output, tuple):
            return (*output, receipt)
        output.receipt = receipt
        return output

    def _apply(self, fn: Any, recurse: bool = True) -> Economy:
        """Refuse to be moved: wallets, policies and the model would end up on different devices."""
        raise EconomyError(
            "an economy stays where its model was; move or convert the model first, then found it"
        )

    @contextmanager
    def closed(self) -> Iterator[PreTrainedModel]:
        """The exact base model: no hook is left on it, nothing trades, no credit moves."""
        was_open, self.is_open = self.is_open, False
        try:
            yield self.model
        finally:
            self.is_open = was_open

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Forwards that are forgotten afterwards: credits, prices, step count.

        Who bids how and how the market clears are as before, too; settings of ``market`` stay.
        """
        state = {key: value.detach().clone() for key, value in self.economy_state().items()}
        policies, market = list(self.population.policies), self.market
        terms, course = (market.mechanism, market.timing), market.last_course
        config = self.config
        try:
            yield
        finally:
            self.population.policies = policies
            market.set_mechanism(*terms)
            self.config = config
            self.load_economy_state(state)
            market.last_course = course

    # --- policies and mechanisms -------------------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """Give every agent the same policy.

        Single agents take another through their Mesa view or ``population.assign_policy``.
        """
        self.population.assign_policy(slice(None), policy)

    def set_mechanism(self, config: MechanismConfig) -> None:
        """Change how the market clears.

        Raises:
            EconomyError: it is unknown, looks ahead on a decoder, or would read bids from hidden
                states that policies were not calibrated on.
        """
        mechanism = mechanism_for(self.adapter, config)
        before = self.calibrated_for
        if before is not None and (before == "forward") != (config.timing == "forward"):
            raise EconomyError(
                f"bids were calibrated for timing {before!r} and cannot be read for "
                f"{config.timing!r}; found a new economy with it and calibrate that one"
            )
        self.market.set_mechanism(mechanism, config.timing)
        self.config = self.config.model_copy(update={"mechanism": config})

    def set_latency(self, latency: LatencyConfig | None) -> None:
        """Charge agents milliseconds, or FLOPs again; the budget's share stays as it is.

        Args:
            latency: what agents take on a clock, see ``latencies``; None for FLOPs.
        """
        self.adapter.shape = charged(self.adapter.shape, latency)
        self.market.set_rates(self.adapter.shape.rates)
        self.config = self.config.model_copy(update={"latency": latency, "budget_ms": None})

    def budget_share(self, budget_ms: float) -> float:
        """A budget in milliseconds, for a batch of the latencies' size, as ``budget_fraction``.

        Raises:
            EconomyError: agents are charged FLOPs, or not even a forward without agents is as fast.
        """
        if self.config.latency is None:
            raise EconomyError(
                "a budget in milliseconds needs latencies; found the economy with "
                "latency=latency_config(...) (agent_economy.latencies)"
            )
        pooled = self.market.reading.pooled
        return budget_share(budget_ms, self.config.latency, self.adapter, pooled=pooled)

    @property
    def policies(self) -> list[Policy]:
        """The distinct policies of all agents."""
        return [each for each in self.population.policies if isinstance(each, Policy)]

    def trace(
        self, batches: Iterable[dict[str, Any]], loss: ProbeLoss, *, probes: int = 2
    ) -> Trace:
        """A dense pass that measures every agent; see ``executors.trace``."""
        seed = seed_for(self.config.seed, "trace")
        return trace(self.adapter, batches, loss, probes=probes, seed=seed)

    def calibrate(
        self,
        batches: Iterable[dict[str, Any]],
        loss: ProbeLoss,
        *,
        probes: int = 2,
        utility: Utility | None = None,
        draws: int = 32,
    ) -> None:
        """Fit every policy that values agents by what they did on real batches.

        Args:
            batches: inputs of the model.
            loss: (output, batch, generator) -> scalar, summed over rows; see ``tasks.utility``.
            probes: draws of the loss per batch.
            utility: what whole allocations are measured by, for policies that need it.
            draws: whole allocations measured per batch, for policies that need them.

        Raises:
            EconomyError: a policy learns from measured losses, and there is no utility.
        """
        calibrate(self, batches, loss, probes=probes, utility=utility, draws=draws)
        self.calibrated_for = self.market.timing

    # --- saving ------------------------------------------------------------------------------

    def economy_state(self) -> dict[str, torch.Tensor]:
        """Everything that lasts between forwards, the model apart, as named tensors."""
        return state_of(self)

    def load_economy_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take up what ``economy_state`` gave; the agents' policies must be the same."""
        restore(self, state)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as it is, and the economy beside it (JSON and safetensors).

        Raises:
            EconomyError: a policy is not registered, or hides its options.
        """
        saving.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, model: PreTrainedModel | None = None) -> Self:
        """Read what ``save_pretrained`` wrote.

        Args:
            folder: where.
            model: found the economy in this model instead of the saved one.

        Raises:
            EconomyError: the folder holds no economy, or another model's.
        """
        return saving.load(cls, Path(folder), model)
