"""What all cells of a study share: the model, its texts, and the dense reference."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import Adapter, adapter_for
from agent_economy.costs.tariff import served_tokens
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.metrics.attention import AttentionSpread, attention_spread
from agent_economy.registry import build
from agent_economy.rivals import RIVALS, Evidence
from agent_economy.rivals.base import plan_loss
from agent_economy.runs.scenario import Cell, Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.utility import (
    EmbeddingFidelity,
    Examples,
    LabelledScore,
    NextTokenFidelity,
    Perplexity,
    Utility,
)
from agent_economy.zoo import load
from simulations.calibration import Calibration
from simulations.scarcity.config import STATIC_MASK, ScarcityConfig
from simulations.scarcity.texts import Batch, Reader


class Dense(NamedTuple):
    """What the dense model did with one batch; no attention where details are not wanted."""

    batch: Batch
    reference: Tensor
    attention: list[Tensor]
    spread: AttentionSpread | None
    examples: Examples | None


class Stream(NamedTuple):
    """One seed's texts: measured batches with their dense reference, and calibration.

    Attributes:
        dense: measured batches.
        example_SB: which examples of the data set their rows are.
        calibration: what policies and rivals are fitted on.
        selection: batches that the best static mask is chosen on.
    """

    dense: list[Dense]
    example_SB: list[list[int]]
    calibration: Calibration
    selection: list[Batch]


class Session:
    """The heavy part of a study, loaded once.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: ScarcityConfig, log: Log) -> None:
        self.config, self.log = config, log
        # Where attention weights are part of the study: only the eager kernel returns them.
        kernel = "eager" if config.detail else "sdpa"
        self.loaded = load(config.model, attn_implementation=kernel)
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.utility = self._utility()
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        self.reader = Reader(config, self.tokenizer, positions, log)
        for market in config.markets:  # one that looks ahead on a decoder is refused here
            self._found(market.mechanism, market.scope, market.timing, 1.0, 0)
        self._pooled = reading_of(self._adapter).pooled
        for seed in config.seeds:
            self.stream(seed)
        log("model loaded", source=self.loaded.source, utility=self.utility.unit)

    def data_hashes(self) -> dict[str, str]:
        """Digests of every seed's texts."""
        return self.reader.digests

    def economy(self, cell: Cell) -> Economy:
        """A fresh economy for a cell, its policy calibrated on the seed's calibration texts.

        A static mask needs no market: its agents serve every token.
        """
        seed = int(cell["seed"])
        if cell["mechanism"] == STATIC_MASK:
            budget = float(cell["budget_fraction"])
            economy = self._found("uniform", "sequence", "spot", budget, seed)
            economy.market.plan_YN = self.plan(str(cell["policy"]), budget, seed)
            return economy
        timing = str(cell["timing"])
        economy = self._found(
            str(cell["mechanism"]), str(cell["scope"]), timing, float(cell["budget_fraction"]), seed
        )
        calibration = self.stream(seed).calibration
        economy.set_policy(calibration.policy(str(cell["policy"]), ahead=timing == "forward"))
        calibration.warm_up(economy, self.config.warm_up)
        economy.market.measure_optimum = self.config.detail
        return economy

    def _found(
        self, mechanism: str, scope: str, timing: str, budget_fraction: float, seed: int
    ) -> Economy:
        config = {
            "block_size": self.config.block_size,
            "budget_fraction": budget_fraction,
            "mechanism": {"name": mechanism, "scope": scope, "timing": timing},
            "policy": {"name": "constant"},
            "wallet": self.config.wallet.model_dump(),
            "seed": seed_for(seed, "economy"),
        }
        return Economy.from_model(self.model, **config)

    @lru_cache(maxsize=64)  # noqa: B019 - a session lives as long as the run
    def plan(self, name: str, budget_fraction: float, seed: int) -> Tensor:
        """A rival's static mask, fitted on the seed's calibration texts."""
        (config,) = [rival for rival in self.config.rivals if rival.name == name]
        rival = build(RIVALS, config, seed=seed_for(seed, "rival", name))
        return rival.fit(self.evidence(seed), budget_fraction, self.reader.longest)

    @lru_cache(maxsize=64)  # noqa: B019
    def evidence(self, seed: int) -> Evidence:
        """What rivals are fitted on."""
        calibration = self.stream(seed).calibration
        return Evidence(self._adapter, calibration.batches, calibration.trace, self.utility)

    def selection_loss(self, plan_YN: Tensor, seed: int) -> float:
        """Mean loss of the seed's selection texts under a static mask."""
        batches, references = self.stream(seed).selection, self._references(seed)
        return plan_loss(self._adapter, batches, self.utility, references, plan_YN)

    @lru_cache(maxsize=64)  # noqa: B019
    def _references(self, seed: int) -> list[Tensor]:
        return [self.dense(batch).reference for batch in self.stream(seed).selection]

    @cached_property
    def _adapter(self) -> Adapter:
        return adapter_for(self.model, self.config.block_size)

    @lru_cache(maxsize=64)  # noqa: B019
    def stream(self, seed: int) -> Stream:
        """The seed's batches, run densely once, and its calibration pass."""
        texts = self.reader.read(seed)
        calibration = Calibration(
            self._adapter, self.utility, texts.calibration, seed, probes=self.config.probes
        )
        return Stream(
            [self.dense(measured.batch) for measured in texts.measured],
            [measured.example_B for measured in texts.measured],
            calibration,
            texts.selection,
        )

    @torch.no_grad()
    def dense(self, batch: Batch, *, judged: bool = True) -> Dense:
        """Reference, attention and its spread of the dense model on one batch.

        Args:
            batch: inputs, and labels where the utility needs them.
            judged: whether there are labels to take examples from.
        """
        output = self.model(**batch, output_attentions=self.config.detail)
        reference = self.utility.reference(output, batch)
        examples = self.utility.examples(output, batch, reference) if judged else None
        if not self.config.detail:
            return Dense(batch, reference, [], None, examples)
        attention = list(output.attentions)
        mask_BL = token_mask(batch)
        read = served_tokens(mask_BL, len(attention), pooled=self._pooled)
        heads = attention[0].shape[1]
        ones = [each[..., None].expand(*mask_BL.shape, heads).float() for each in read]
        spread = attention_spread(attention, ones, mask_BL)
        return Dense(batch, reference, attention, spread, examples)

    def showcase(self) -> Batch:
        """The showcase sentence as a batch of one; what is longer than a row is cut off."""
        encoded = encode(
            self.tokenizer, [self.config.showcase], self.config.max_tokens, self.reader.positions
        )
        return {key: value[:1] for key, value in encoded.items()}

    def tokens(self, batch: Batch) -> list[str]:
        """The written tokens of a batch's first row."""
        ids = batch["input_ids"][0][token_mask(batch)[0]].tolist()
        return [self.tokenizer.decode([i]).strip() or "␣" for i in ids]

    # --- parts -------------------------------------------------------------------------------

    def _utility(self) -> Utility:
        config, task = self.config, self.loaded.task
        if config.task == "wikitext2":
            if task != "lm":
                raise EconomyError(
                    f"model {config.model!r} predicts no next token, so it has no perplexity on "
                    "wikitext2; choose a decoder such as 'smollm2'"
                )
            return Perplexity()
        if config.task != "auto":
            if task != "classify":
                raise EconomyError(
                    f"model {config.model!r} has no head for task {config.task!r}; set task = "
                    "'auto' for fidelity to the dense model, or give a fine-tuned model's folder"
                )
            data = load_task(config.task, "validation")
            return LabelledScore(data.metric, data.regression)
        return {"embedding": EmbeddingFidelity, "lm": NextTokenFidelity}.get(
            task, EmbeddingFidelity
        )()
