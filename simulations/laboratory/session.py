"""The heavy part of a study of allocation dynamics: model, texts, dense reference, economies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.config import MechanismConfig, WalletConfig
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import token_mask
from agent_economy.runs.scenario import Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.text import sample_texts, text_digest
from agent_economy.tasks.utility import EmbeddingFidelity, NextTokenFidelity, Utility
from agent_economy.zoo import load
from simulations.calibration import Calibration
from simulations.laboratory.config import RICH, LaboratoryConfig

Batch = dict[str, Any]

_KEPT = 256
"""Batches whose dense outputs are kept for the next cell."""


class Dense(NamedTuple):
    """One batch, and what the dense model did with it.

    Attributes:
        batch: inputs of the model.
        mask_BL: real tokens.
        reference: what the utility keeps of the output.
        loss_B: each row's loss: rounding for encoders.
    """

    batch: Batch
    mask_BL: Bool[Tensor, "B L"]
    reference: Tensor
    loss_B: Float64[Tensor, "B"]


class _Stream(Sequence[Dense]):
    """Batches with what the dense model makes of them; of a long stream the latest are kept."""

    def __init__(self, batches: list[Batch], dense: Callable[[Batch], Dense]) -> None:
        self._batches = batches
        self._dense = lru_cache(maxsize=_KEPT)(lambda place: dense(batches[place]))

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, place: int) -> Dense: ...

    @overload
    def __getitem__(self, place: slice) -> list[Dense]: ...

    def __getitem__(self, place: int | slice) -> Dense | list[Dense]:
        places = range(len(self))[place]
        return self._dense(places) if isinstance(places, int) else [*map(self._dense, places)]


class Laboratory:
    """A model and its texts, loaded once for all cells.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: LaboratoryConfig, log: Log) -> None:
        self.config, self.log = config, log
        self.loaded = load(config.model)
        self.model = self.loaded.model
        self.adapter = adapter_for(self.model, config.block_size)
        self.utility: Utility
        if self.loaded.task == "lm":
            self.utility = NextTokenFidelity()
        elif self.loaded.task == "embedding":
            self.utility = EmbeddingFidelity()
        else:
            raise EconomyError(
                f"model {config.model!r} has a task head; this study measures fidelity to the "
                "dense model, so give an embedding model or a language model"
            )
        self.digests: dict[str, str] = {}
        for seed in config.seeds:
            self._texts(seed)
        log("model loaded", source=self.loaded.source, utility=self.utility.unit)

    def data_hashes(self) -> dict[str, str]:
        """Digests of every seed's texts."""
        return self.digests

    @lru_cache(maxsize=8)  # noqa: B019 - a session lives as long as the run
    def stream(self, seed: int) -> Sequence[Dense]:
        """The seed's measured batches in order, each run densely when it is first asked for."""
        wanted = self.config.steps * self.config.batch_size
        return _Stream(self.batches(self._texts(seed)[:wanted]), self._dense)

    @lru_cache(maxsize=8)  # noqa: B019
    def calibration(self, seed: int) -> Calibration:
        """What agents learn their values on."""
        batches = self.batches(self._texts(seed)[self.config.steps * self.config.batch_size :])
        probes = self.config.probes
        return Calibration(self.adapter, self.utility, batches, seed, probes=probes)

    def economy(
        self,
        seed: int,
        mechanism: str | MechanismConfig = "uniform_price",
        *,
        budget_fraction: float = 1.0,
        wallet: WalletConfig = RICH,
        policy: str | None = None,
    ) -> Economy:
        """A fresh economy whose agents are calibrated on the seed's calibration texts.

        Args:
            seed: of texts, calibration and lots.
            mechanism: its name, cleared per sequence and on the spot, or all its terms.
            budget_fraction: supply at first.
            wallet: money; by default so much that it never binds.
            policy: how agents bid; the study's where None.
        """
        if isinstance(mechanism, str):
            mechanism = MechanismConfig(name=mechanism)
        economy = Economy.from_model(
            self.model,
            block_size=self.config.block_size,
            budget_fraction=budget_fraction,
            mechanism=mechanism.model_dump(),
            policy={"name": "constant"},
            wallet=wallet.model_dump(),
            seed=seed_for(seed, "economy"),
        )
        ahead = mechanism.timing == "forward"
        calibration = self.calibration(seed)
        economy.set_policy(calibration.policy(policy or self.config.policy, ahead=ahead))
        return economy

    def losses(self, output: Any, dense: Dense) -> Float64[Tensor, "B"]:
        """Each row's loss against the dense model: ``1 - cosine``, or nats per token."""
        loss_B = self.utility.row_loss(output, dense.batch, dense.reference)
        return loss_B.double() - dense.loss_B

    def batches(self, texts: list[str]) -> list[Batch]:
        """Texts in batches of one row each, cut off where a row ends."""
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        encoded = encode(self.loaded.tokenizer, texts, self.config.max_tokens, positions)
        first = [encoded.text_of_row.index(text) for text in range(len(texts))]
        size = self.config.batch_size
        return [
            {key: value[first[row : row + size]] for key, value in encoded.items()}
            for row in range(0, len(first), size)
        ]

    # --- parts -------------------------------------------------------------------------------

    @torch.no_grad()
    def _dense(self, batch: Batch) -> Dense:
        output = self.model(**batch)
        reference = self.utility.reference(output, batch)
        loss_B = self.utility.row_loss(output, batch, reference).double()
        return Dense(batch, token_mask(batch), reference, loss_B)

    @lru_cache(maxsize=8)  # noqa: B019
    def _texts(self, seed: int) -> list[str]:
        """Measured texts, then calibration texts: no text is both."""
        config = self.config
        wanted = config.steps * config.batch_size + config.calibration_texts
        texts = sample_texts(config.text, wanted, seed_for(seed, "texts"))
        self.digests[f"{config.text}, seed {seed}"] = text_digest(texts)
        return texts
