"""Markets to shade in: drawn at random, or taken from a model's own bids."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.runs.scenario import Log
from simulations.shading.config import ShadingConfig
from simulations.valuation.config import ValuationConfig
from simulations.valuation.session import Session as ModelSession

#: FLOPs of a head's token and a block's token in MiniLM with 48 tokens: synthetic agents' sizes
_HEAD_FLOPS, _BLOCK_FLOPS = 55_296, 196_608


class Values(NamedTuple):
    """One market, everybody truthful.

    Attributes:
        value_LN: credits, float64.
        tariff: FLOPs, of one row.
    """

    value_LN: Float[Tensor, "L N"]
    tariff: Tariff


class Session:
    """Where markets come from.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: ShadingConfig, log: Log) -> None:
        self.config, self.log = config, log
        if {"layer", "joint"} & set(config.markets):
            layers, agents = len(self._model.adapter.sites), self._model.adapter.shape.agents
            for market, most in (("layer", agents), ("joint", layers * agents)):
                asked = max(config.counts(market), default=0)
                if market in config.markets and asked > most:
                    key = "layer_agents" if market == "layer" else "agents"
                    raise EconomyError(
                        f"{key}: a {market} market of {config.model!r} has {most} agents, "
                        f"not {asked}"
                    )

    def data_hashes(self) -> dict[str, str]:
        """Digests of the model's texts, where it is used."""
        return self._model.data_hashes() if "_model" in vars(self) else {}

    def market(self, kind: str, agents: int, seed: int, generator: torch.Generator) -> Values:
        """A market of a kind with so many agents, drawn with the generator."""
        if kind == "synthetic":
            return self._synthetic(agents, generator)
        return self._of_model(kind == "joint", agents, seed, generator)

    # --- parts -------------------------------------------------------------------------------

    @cached_property
    def _model(self) -> ModelSession:
        config = self.config
        study = ValuationConfig(
            model=config.model,
            text=config.text,
            rows=config.rows,
            calibration_texts=config.calibration_texts,
            block_size=config.block_size,
            policies=[config.policy],
            max_tokens=max(config.tokens, 4),
            seeds=config.seeds,
        )
        return ModelSession(study, self.log)

    def _synthetic(self, agents: int, generator: torch.Generator) -> Values:
        """Densities lognormal around each agent's own mean; every other agent is a block."""
        config = self.config
        sizes_N = torch.full((agents,), _HEAD_FLOPS)
        sizes_N[(agents + 1) // 2 :] = _BLOCK_FLOPS
        double = torch.float64
        own_N = torch.randn(agents, generator=generator, dtype=double) * config.spread_agents
        around_LN = torch.randn(config.tokens, agents, generator=generator, dtype=double)
        density_LN = torch.exp(own_N + around_LN * config.spread_tokens)
        real = torch.ones(1, config.tokens, dtype=torch.bool)
        tariff = Tariff(sizes_N[None, :, None], torch.zeros(0, dtype=torch.long), real)
        return Values(density_LN * sizes_N / sizes_N.double().mean(), tariff)

    def _of_model(self, joint: bool, agents: int, seed: int, generator: torch.Generator) -> Values:
        """Some agents of one layer, or of all of them, on one text; set-up fees as they are."""

        def draw(count: int, size: int = 1) -> list[int]:
            return torch.randperm(count, generator=generator)[:size].tolist()

        model = self._model
        shape, layers = model.adapter.shape, len(model.adapter.sites)
        if shape.kv_heads < shape.heads:
            raise EconomyError(
                f"model {self.config.model!r} shares keys and values between heads, so agents "
                "can't be drawn one by one; choose markets = ['synthetic'] or another model"
            )
        dense = model.dense(seed)
        batch = dense[draw(len(dense))[0]]
        bids = model.bids(model.policy(self.config.policy, seed), batch)
        row = draw(len(batch.mask_BL))[0]
        real_L = batch.mask_BL[row]
        chosen = draw(layers)[:1] if not joint else list(range(layers))
        heads = [(layer, n) for layer in chosen for n in range(shape.heads)]
        blocks = [(layer, n) for layer in chosen for n in range(shape.heads, shape.agents)]
        everybody = heads + blocks
        places = sorted(draw(len(everybody), agents))
        taken = [everybody[place] for place in places]
        value_LN = torch.stack([bids[layer][row, real_L, n] for layer, n in taken], -1).double()
        flops_N = batch.tariff.token_flops_BNL[row, [n for _, n in taken], 0]
        fees_U = batch.tariff.setup_flops_U[[n for _, n in taken if n < shape.heads]]
        real = torch.ones(1, len(value_LN), dtype=torch.bool)
        return Values(value_LN, Tariff(flops_N[None, :, None], fees_U, real))
