"""What agents bid on the texts of two sources, token by token."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import watched
from agent_economy.executors.masked import token_mask
from agent_economy.policies import Features
from agent_economy.runs.scenario import Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.text import paragraphs, sample_texts, text_digest
from simulations.laboratory.session import Batch, Laboratory
from simulations.pacing.config import PacingConfig
from simulations.pacing.streams import Pool

WRITTEN = "written"


class Session(Laboratory):
    """A model, and pools of its bids.

    Args:
        config: the study.
        log: the run's log.

    Raises:
        EconomyError: a source has too few paragraphs, or too few tokens as written.
    """

    def __init__(self, config: PacingConfig, log: Log) -> None:
        super().__init__(config, log)
        self._lots: dict[int, list[Batch]] = {}
        self._written: dict[int, list[Batch]] = {}
        for seed in config.seeds:
            texts = []
            for source in (config.text, config.other_text):
                found = sample_texts(source, config.pool_texts, seed_for(seed, "pool", source))
                self.digests[f"pool of {source}, seed {seed}"] = text_digest(found)
                texts += found
            self._lots[seed] = self.batches(texts)
            if WRITTEN in config.orders:
                self._written[seed] = self._chunks(self._stretch(config, seed))
                self._check_length(config, self._written[seed])

    def pool(self, seed: int, order: str) -> Pool:
        """Bids and FLOPs of every token that streams of an order are made of, in a dense pass."""
        return self._pool(seed, order == WRITTEN)

    @lru_cache(maxsize=4)  # noqa: B019 - a session lives as long as the run
    def _pool(self, seed: int, written: bool) -> Pool:
        batches = (self._written if written else self._lots)[seed]
        found = [self._bids(seed, batch) for batch in batches]
        bids, flops, lengths = (torch.cat(part) for part in zip(*found, strict=True))
        half = len(lengths) // 2
        source_X = (torch.arange(len(lengths)) >= half).long()
        return Pool(bids, flops, lengths, source_X)

    @torch.no_grad()
    def _bids(self, seed: int, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        policy = self.calibration(seed).policy(self.config.policy)
        mask_BL, shape = token_mask(batch), self.adapter.shape
        everybody, rows = torch.arange(shape.agents), len(mask_BL)
        limit_BN = torch.full((rows, shape.agents), 1e9)
        bids = [
            policy.bid(Features(layer, 0, hidden_BLD, everybody, limit_BN, None))[mask_BL].double()
            for layer, hidden_BLD in enumerate(watched(self.adapter, batch)[1])
        ]
        flops_BNL = layer_tariff(shape, mask_BL).token_flops_BNL.expand(-1, -1, mask_BL.shape[1])
        flops_TN = flops_BNL.transpose(1, 2)[mask_BL].double()
        return torch.cat(bids, 1), flops_TN.repeat(1, len(bids)), mask_BL.sum(1)

    # --- texts -------------------------------------------------------------------------------

    def _stretch(self, config: PacingConfig, seed: int) -> list[str]:
        """Paragraphs as they stand in the second source, from a place drawn by lot."""
        texts, wanted = paragraphs(config.other_text), config.written_texts
        if wanted > len(texts):
            raise EconomyError(
                f"{config.other_text!r} has {len(texts)} paragraphs; set written_texts = 2 to "
                f"that many, not {wanted}"
            )
        draw = np.random.default_rng(seed_for(seed, WRITTEN))
        start = int(draw.integers(len(texts) - wanted + 1))
        found = texts[start : start + wanted]
        self.digests[f"{config.other_text} as written, seed {seed}"] = text_digest(found)
        return found

    def _chunks(self, texts: list[str]) -> list[Batch]:
        """Every token of some texts, in order; longer ones go over several rows."""
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        encoded = encode(self.loaded.tokenizer, texts, self.config.max_tokens, positions)
        rows, size = len(encoded.text_of_row), self.config.batch_size
        return [
            {key: value[row : row + size] for key, value in encoded.items()}
            for row in range(0, rows, size)
        ]

    def _check_length(self, config: PacingConfig, batches: list[Batch]) -> None:
        """Stream and sample are taken from two halves, and begin where a row does."""
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        needed = 2 * (max(config.lengths) + config.max_tokens)
        if tokens < needed:
            raise EconomyError(
                f"written_texts = {config.written_texts} are {tokens} tokens, too few for streams "
                f"of {max(config.lengths)} ({needed}); raise it, or shorten lengths"
            )
