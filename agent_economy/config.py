"""Everything that defines an economy, apart from the model."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agent_economy.costs.latency import KINDS, Kind
from agent_economy.runs.config import StrictModel


class Named(StrictModel):
    """A registered member and its options.

    Attributes:
        name: what the registry calls it.
        options: keyword arguments of its constructor.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class MechanismConfig(Named):
    """How the market clears.

    Attributes:
        scope: over which tokens one budget is cleared.
        timing: ``spot`` clears layer by layer, each with its own share of supply; ``forward`` makes
            one market of all layers before the first one runs, with bids predicted from what enters
            it; ``trace`` does so with the hidden states of a dense pass, whose FLOPs are reported
            beside (``Receipt.trace_flops``) and not paid for: a study of what foresight is worth.
    """

    name: str = "uniform_price"
    scope: Literal["token", "sequence", "batch"] = "sequence"
    timing: Literal["spot", "forward", "trace"] = "spot"


class WalletConfig(StrictModel):
    """Money.

    Attributes:
        endowment_credits: what every agent starts with. Calibrated bids average one credit per
            token, so this is the number of tokens that an agent can bid for before it earns.
        income: what agents are paid after a forward.
        bankruptcy: what becomes of agents that stay poor.
    """

    endowment_credits: float = Field(100_000.0, gt=0)
    income: Named = Named(name="contribution")
    bankruptcy: Named = Named(name="none")


class LatencyConfig(StrictModel):
    """What agents take on a clock, fitted to one model's layers; see ``latencies``.

    Attributes:
        lines: of every kind of agent: milliseconds of a call, a token, a pair of tokens.
        device: where they were measured.
        threads: of torch then.
        date: of the measurement.
        rows: of the batches that calls are spread over, and budgets in milliseconds are for.
        length: tokens in each row of theirs.
    """

    lines: dict[Kind, tuple[float, float, float]]
    device: str
    threads: int = Field(ge=1)
    date: str
    rows: int = Field(ge=1)
    length: int = Field(ge=1)

    @model_validator(mode="after")
    def _every_kind(self) -> Self:
        if missing := set(KINDS) - set(self.lines):
            raise ValueError(f"no latencies of {', '.join(sorted(missing))}")
        return self


class EconomyConfig(StrictModel):
    """An economy inside a model.

    Attributes:
        block_size: FFN neurons in one block agent.
        budget_fraction: supply as a fraction of what all agents cost, in (0, 1].
        latency: what agents take on a clock: they are charged milliseconds then; None for FLOPs.
        budget_ms: supply in milliseconds for a forward of the layers on a batch of the latencies'
            size, instead of ``budget_fraction``.
        mechanism: how the market clears.
        policy: how agents bid, until a selection of them is given another policy.
        wallet: endowments, income, bankruptcy.
        seed: root of every draw.
    """

    block_size: int = Field(128, ge=1)
    budget_fraction: float = Field(1.0, gt=0, le=1)
    latency: LatencyConfig | None = None
    budget_ms: float | None = Field(None, gt=0)
    mechanism: MechanismConfig = MechanismConfig()
    policy: Named = Named(name="taylor")
    wallet: WalletConfig = WalletConfig()
    seed: int = 0
