"""What a shading study varies, checked before anything heavy is loaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.policies import POLICIES
from agent_economy.runs.config import StrictModel

Count = Annotated[int, Field(ge=2)]


class ShadingConfig(StrictModel):
    """One agent misreports, in every way there is a family for; everybody else bids its values.

    Attributes:
        mechanisms: who allocates and charges.
        markets: ``synthetic`` (values drawn, no set-up fees), ``layer`` (agents of one layer of
            the model) or ``joint`` (agents of all its layers in one market).
        agents: numbers of agents in synthetic and joint markets.
        layer_agents: numbers of agents in markets of one layer.
        tokens: tokens that every agent bids on; of the model's texts the first so many.
        budget_fraction: supply as a share of what serving everybody would take.
        factors: by which the agent multiplies its bids to shade them.
        overbids: by which it multiplies them to overbid.
        withheld: so many of the tokens that it is served when truthful it bids nothing for.
        ceilings: at which it caps its bids, as multiples of the uniform price.
        draws: markets per cell; in each of them one agent, drawn by lot, misreports.
        spread_agents: standard deviation of the log of an agent's mean density, synthetic.
        spread_tokens: standard deviation of the log of densities around it, synthetic.
        model: whose bids are taken.
        policy: whose bids are taken.
        text: what the model reads.
        rows: texts that markets are drawn from.
        calibration_texts: texts that the policy is calibrated on.
        block_size: FFN neurons per block agent.
        seeds: each draws its own markets and texts.
    """

    mechanisms: list[str] = Field(["uniform_price", "first_price", "vcg"], min_length=1)
    markets: list[Literal["synthetic", "layer", "joint"]] = Field(["synthetic"], min_length=1)
    agents: list[Count] = Field([3, 5, 8, 16, 24, 48, 96, 144], min_length=1)
    layer_agents: list[Count] = Field([5, 8, 16, 24])
    tokens: int = Field(48, ge=1)
    budget_fraction: float = Field(0.5, gt=0, lt=1)
    factors: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98], min_length=1
    )
    overbids: list[Annotated[float, Field(gt=1)]] = Field([1.2, 2.0])
    withheld: list[Annotated[int, Field(ge=0)]] = Field([0, 1, 2, 3, 5, 8, 12, 20])
    ceilings: list[Annotated[float, Field(gt=0)]] = Field(
        [0.8, 0.9, 0.95, 0.99, 1.001, 1.02, 1.06, 1.15, 1.4]
    )
    draws: int = Field(40, ge=2)
    spread_agents: float = Field(0.5, ge=0)
    spread_tokens: float = Field(0.8, gt=0)
    model: str = "minilm"
    policy: str = "taylor"
    text: str = "python-docs"
    rows: int = Field(16, ge=2)
    calibration_texts: int = Field(24, ge=4)
    block_size: int = Field(128, ge=1)
    seeds: list[int] = Field([0, 1], min_length=1)

    def counts(self, market: str) -> list[int]:
        """Numbers of agents in markets of a kind."""
        return self.layer_agents if market == "layer" else self.agents


def check(config: ShadingConfig) -> None:
    """Refuse unknown names and values listed twice.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    for mechanism in config.mechanisms:
        build_mechanism(MechanismConfig(name=mechanism))
    POLICIES.get(config.policy)
    listed = ("mechanisms", "markets", "agents", "layer_agents", "seeds")
    for name in (*listed, "factors", "overbids", "withheld", "ceilings"):
        values = getattr(config, name)
        if len(set(values)) < len(values):
            raise EconomyError(f"{name}: {values} repeats a value; remove it")
