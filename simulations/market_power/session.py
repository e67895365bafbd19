"""Single markets of a model's own bids, and economies to learn in."""

from __future__ import annotations

from agent_economy.runs.scenario import Log
from simulations.laboratory.session import Laboratory
from simulations.market_power.config import MarketPowerConfig
from simulations.shading.config import ShadingConfig
from simulations.shading.session import Session as ShadingSession


class Session(Laboratory):
    """Everything that both studies need.

    Args:
        config: the study.
        log: the run's log.

    Attributes:
        markets: where single markets are drawn.
    """

    def __init__(self, config: MarketPowerConfig, log: Log) -> None:
        super().__init__(config, log)
        study = ShadingConfig(
            mechanisms=config.mechanisms,
            markets=[config.market],
            agents=[config.agents],
            layer_agents=[config.agents],
            tokens=config.tokens,
            budget_fraction=config.supply,
            factors=config.factors,
            draws=config.draws,
            model=config.model,
            policy=config.policy,
            text=config.text,
            calibration_texts=config.calibration_texts,
            block_size=config.block_size,
            seeds=config.seeds,
        )
        self.markets = ShadingSession(study, log)

    def data_hashes(self) -> dict[str, str]:
        """Digests of the learners' and of the markets' texts."""
        drawn = {f"markets: {k}": v for k, v in self.markets.data_hashes().items()}
        return super().data_hashes() | drawn
