"""What all cells share: the model, its texts, dense passes, and allocations that nobody bid for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.costs.tariff import Tariff, layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.executors.ablation import row_losses
from agent_economy.executors.hooks import watched
from agent_economy.executors.masked import token_mask
from agent_economy.policies import Features, Policy
from agent_economy.runs.scenario import Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.text import sample_texts, text_digest
from agent_economy.tasks.utility import EmbeddingFidelity, NextTokenFidelity, Utility
from agent_economy.zoo import load
from simulations.calibration import Calibration
from simulations.valuation.allocations import FAMILIES, halves
from simulations.valuation.config import ValuationConfig

Batch = dict[str, Any]
Gates = list[Bool[Tensor, "B L N"]]
#: credits that never bind: bids are judged here, not wallets
_RICH = 1e9


class Dense(NamedTuple):
    """One batch and what the dense model did with it.

    Attributes:
        batch: inputs of the model.
        mask_BL: real tokens.
        tariff: FLOPs of a layer.
        hidden: per layer, hidden states on entry.
        reference: what the utility keeps of the output.
        loss_B: each row's loss.
        first_row: place of the batch's first row among the seed's.
    """

    batch: Batch
    mask_BL: Bool[Tensor, "B L"]
    tariff: Tariff
    hidden: list[Float[Tensor, "B L D"]]
    reference: Tensor
    loss_B: Float64[Tensor, "B"]
    first_row: int


class Drawn(NamedTuple):
    """A random allocation and its measured cost.

    Attributes:
        family: how it was drawn.
        budget_fraction: the FLOPs that it keeps to.
        gates: who serves.
        change_B: each row's loss less its dense loss.
        parts_B: the same for each half of its closings by itself, added up.
    """

    family: str
    budget_fraction: float
    gates: Gates
    change_B: Float64[Tensor, "B"]
    parts_B: Float64[Tensor, "B"]


class Session:
    """The heavy part of a study, loaded once.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: ValuationConfig, log: Log) -> None:
        self.config, self.log = config, log
        self.loaded = load(config.model)
        self.model = self.loaded.model
        self.adapter = adapter_for(self.model, config.block_size)
        self.utility: Utility
        if self.loaded.task == "lm":
            self.utility, self.unit = NextTokenFidelity(), "nats per token"
        elif self.loaded.task == "embedding":
            self.utility, self.unit = EmbeddingFidelity(), "1 - cosine"
        else:
            raise EconomyError(
                f"model {config.model!r} has a task head; this study measures fidelity to the "
                "dense model, so give an embedding model or a language model"
            )
        self.economy(0.5, 0)  # a mechanism that looks ahead on a decoder is refused here
        self.digests: dict[str, str] = {}
        for seed in config.seeds:
            self._texts(seed)
        log("model loaded", source=self.loaded.source, loss=self.unit)

    def data_hashes(self) -> dict[str, str]:
        """Digests of every seed's texts."""
        return self.digests

    # --- measuring ---------------------------------------------------------------------------

    def change_B(self, dense: Dense, gates: Gates) -> Float64[Tensor, "B"]:
        """Each row's loss under these gates, less its dense loss."""
        return self._losses(dense.batch, dense.reference, gates) - dense.loss_B

    def parts_B(self, dense: Dense, gates: Gates, seed: int) -> Float64[Tensor, "B"]:
        """What two random halves of the agents' closings cost by themselves, added up."""
        generator = torch.Generator().manual_seed(seed)
        one, other = halves(gates, generator)
        return self.change_B(dense, one) + self.change_B(dense, other)

    def bids(self, policy: Policy, dense: Dense, step: int = 0) -> list[Float[Tensor, "B L N"]]:
        """What the policy bids, layer by layer, when everybody is present."""
        rows, agents = len(dense.mask_BL), self.adapter.shape.agents
        limit_BN = torch.full((rows, agents), _RICH)
        everybody = torch.arange(agents)
        return [
            policy.bid(Features(layer, step, hidden_BLD, everybody, limit_BN, None)).detach()
            for layer, hidden_BLD in enumerate(dense.hidden)
        ]

    @lru_cache(maxsize=8)  # noqa: B019 - a session lives as long as the run
    def dense(self, seed: int) -> list[Dense]:
        """The dense pass over the seed's measured rows."""
        size = self.config.batch_size
        return [
            self._dense(batch, index * size)
            for index, batch in enumerate(self._batches(self._texts(seed)[0], self.config.rows))
        ]

    @lru_cache(maxsize=8)  # noqa: B019
    def drawn(self, seed: int) -> list[list[Drawn]]:
        """Per batch, the seed's random allocations, the same for all policies."""
        return [
            [
                self._draw(dense, family, budget, seed_for(seed, "draw", family, str(budget), draw))
                for budget in self.config.budgets
                for family in FAMILIES
                for draw in range(self.config.draws)
            ]
            for dense in self.dense(seed)
        ]

    # --- bidding -----------------------------------------------------------------------------

    def economy(self, budget_fraction: float, seed: int) -> Economy:
        """An economy whose wallets never bind."""
        return Economy.from_model(
            self.model,
            block_size=self.config.block_size,
            budget_fraction=budget_fraction,
            mechanism={"name": self.config.mechanism},
            policy={"name": "constant"},
            wallet={"endowment_credits": _RICH, "income": {"name": "flat"}},
            seed=seed_for(seed, "economy"),
        )

    def policy(self, name: str, seed: int) -> Policy:
        """A policy, calibrated on the seed's calibration texts."""
        return self._calibration(seed).policy(name)

    def warm_up(self, economy: Economy, seed: int) -> None:
        """Let a mechanism that learns do so on calibration text; credits start afresh."""
        self._calibration(seed).warm_up(economy, self.config.warm_up)

    # --- parts -------------------------------------------------------------------------------

    @torch.no_grad()
    def _dense(self, batch: Batch, first_row: int) -> Dense:
        output, hidden = watched(self.adapter, batch)
        mask_BL = token_mask(batch)
        reference = self.utility.reference(output, batch)
        loss_B = self.utility.row_loss(output, batch, reference).double()
        tariff = layer_tariff(self.adapter.shape, mask_BL)
        return Dense(batch, mask_BL, tariff, hidden, reference, loss_B, first_row)

    def _losses(self, batch: Batch, reference: Tensor, gates: Gates) -> Float64[Tensor, "B"]:
        def loss_B(output: Any, batch: Batch) -> Tensor:
            return self.utility.row_loss(output, batch, reference)

        return row_losses(self.adapter, batch, loss_B, gates).double()

    def _draw(self, dense: Dense, family: str, budget: float, seed: int) -> Drawn:
        generator = torch.Generator().manual_seed(seed + dense.first_row)
        supply_B = (dense.tariff.dense_flops_BL.sum(1) * budget).long()
        gates = [FAMILIES[family](dense.tariff, supply_B, generator) for _ in dense.hidden]
        # Another place in the seed tree: the same numbers again would split as they drew.
        parts_B = self.parts_B(dense, gates, seed_for(seed, "halves", dense.first_row))
        return Drawn(family, budget, gates, self.change_B(dense, gates), parts_B)

    @lru_cache(maxsize=8)  # noqa: B019
    def _calibration(self, seed: int) -> Calibration:
        config = self.config
        batches = self._batches(self._texts(seed)[1], config.calibration_texts)
        return Calibration(
            self.adapter, self.utility, batches, seed, probes=config.probes, draws=config.ablations
        )

    @lru_cache(maxsize=8)  # noqa: B019
    def _texts(self, seed: int) -> tuple[list[str], list[str]]:
        """Measured texts and calibration texts, disjoint."""
        config = self.config
        wanted = config.rows + config.calibration_texts
        texts = sample_texts(config.text, wanted, seed_for(seed, "texts"))
        self.digests[f"{config.text}, seed {seed}"] = text_digest(texts)
        return texts[: config.rows], texts[config.rows :]

    def _batches(self, texts: list[str], rows: int) -> list[Batch]:
        """Encode; of a text that is longer than a row the first part is kept."""
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        encoded = encode(self.loaded.tokenizer, texts, self.config.max_tokens, positions)
        first = [encoded.text_of_row.index(text) for text in range(len(texts))][:rows]
        size = self.config.batch_size
        return [
            {key: value[first[row : row + size]] for key, value in encoded.items()}
            for row in range(0, len(first), size)
        ]
