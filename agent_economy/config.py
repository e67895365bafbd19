"""Everything that defines an economy, apart from the model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

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


class EconomyConfig(StrictModel):
    """An economy inside a model.

    Attributes:
        block_size: FFN neurons in one block agent.
        budget_fraction: supply as a fraction of dense agent FLOPs, in (0, 1].
        mechanism: how the market clears.
        policy: how agents bid, until a selection of them is given another policy.
        wallet: endowments, income, bankruptcy.
        seed: root of every draw.
    """

    block_size: int = Field(128, ge=1)
    budget_fraction: float = Field(1.0, gt=0, le=1)
    mechanism: MechanismConfig = MechanismConfig()
    policy: Named = Named(name="taylor")
    wallet: WalletConfig = WalletConfig()
    seed: int = 0
