"""What all cells of a study share: the rows, their dense attention, and what tokens are worth."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.costs.tariff import served_tokens
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.metrics.reallocation import Sums, layer_sums, top_tokens
from agent_economy.metrics.token_value import idf_table, ranked_tokens
from agent_economy.runs.scenario import Cell, Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.utility import (
    EmbeddingFidelity,
    Examples,
    LabelledScore,
    Perplexity,
    Utility,
)
from agent_economy.zoo import load
from simulations.calibration import Calibration
from simulations.reallocation.config import ReallocationConfig
from simulations.reallocation.texts import Batch, Texts
from simulations.reallocation.values import value_tokens


class Measured(NamedTuple):
    """One batch of rows, what the dense model did with it, and its valuable tokens.

    Attributes:
        batch: inputs of the model.
        mask_BL: real tokens.
        ranked_BL: tokens that compete: neither special nor padding.
        top_BL: the valuable tokens under each definition of value.
        attention: of the dense model, layer by layer.
        sums: what it adds up to, all heads open.
        reference: what the utility keeps of the dense output.
        loss_B: each row's dense loss.
        examples: each row's outcome, where the utility is no mean over batches.
    """

    batch: Batch
    mask_BL: Tensor
    ranked_BL: Tensor
    top_BL: dict[str, Tensor]
    attention: list[Tensor]
    sums: list[Sums]
    reference: Tensor
    loss_B: Tensor
    examples: Examples | None


class Session:
    """The heavy part of a study, loaded once.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: ReallocationConfig, log: Log) -> None:
        self.config = config
        # Attention weights are what is studied, and only the eager kernel returns them.
        self.loaded = load(config.model, attn_implementation="eager")
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.utility = self._utility()
        for market in config.markets:  # one that looks ahead on a decoder is refused here
            self._found(market.mechanism, market.scope, 1.0, 0)
        positions = int(getattr(self.model.config, "max_position_embeddings", 512))
        self.texts = Texts(config, self.tokenizer, positions, log)
        self.adapter = adapter_for(self.model, config.block_size)
        self.causal = self.adapter.shape.causal
        self._pooled = reading_of(self.adapter).pooled
        self.measured = {
            seed: [
                self._measure(batch, seed, step)
                for step, batch in enumerate(self.texts.measured(seed))
            ]
            for seed in config.seeds
        }
        for seed in config.seeds:
            self.calibration(seed)
        rows = [measured for batches in self.measured.values() for measured in batches]
        tokens = sum(int(each.ranked_BL.sum()) for each in rows)
        source, unit = self.loaded.source, self.utility.unit
        log("model loaded, tokens valued", source=source, utility=unit, tokens=tokens)

    def data_hashes(self) -> dict[str, str]:
        """Digests of all texts."""
        return self.texts.digests

    # --- economies ---------------------------------------------------------------------------

    def economy(self, cell: Cell) -> Economy:
        """A fresh economy for a cell, its policy calibrated on the seed's calibration texts."""
        seed = int(cell["seed"])
        economy = self._found(
            str(cell["mechanism"]), str(cell["scope"]), float(cell["budget_fraction"]), seed
        )
        calibration = self.calibration(seed)
        economy.set_policy(calibration.policy(str(cell["policy"])))
        calibration.warm_up(economy, self.config.warm_up)
        return economy

    def plain_economy(self, seed: int) -> Economy:
        """An economy that serves everybody, for a plan to be laid into."""
        return self._found("uniform", "sequence", 1.0, seed)

    @lru_cache(maxsize=64)  # noqa: B019 - a session lives as long as the run
    def calibration(self, seed: int) -> Calibration:
        """What policies are fitted on under a seed."""
        batches, probes = self.texts.calibration(seed), self.config.probes
        return Calibration(self.adapter, self.utility, batches, seed, probes=probes)

    def _found(self, mechanism: str, scope: str, budget_fraction: float, seed: int) -> Economy:
        config = {
            "block_size": self.config.block_size,
            "budget_fraction": budget_fraction,
            "mechanism": {"name": mechanism, "scope": scope},
            "policy": {"name": "constant"},
            "wallet": self.config.wallet.model_dump(),
            "seed": seed_for(seed, "economy"),
        }
        return Economy.from_model(self.model, **config)

    # --- tokens and their values -------------------------------------------------------------

    @torch.no_grad()
    def _measure(self, batch: Batch, *place: int) -> Measured:
        """Run a batch densely and value its tokens."""
        mask_BL = token_mask(batch)
        ranked_BL = ranked_tokens(
            batch["input_ids"], mask_BL, self._special_ids, causal=self.causal
        )
        output = self.model(**batch, output_attentions=True)
        reference = self.utility.reference(output, batch)
        loss_B = self.utility.row_loss(output, batch, reference).double()
        values = value_tokens(self, batch, ranked_BL, output, *place)
        fraction = self.config.top_fraction
        attention = list(output.attentions)
        read = served_tokens(mask_BL, len(attention), pooled=self._pooled)
        return Measured(
            batch,
            mask_BL,
            ranked_BL,
            {name: top_tokens(value, ranked_BL, fraction) for name, value in values.items()},
            attention,
            [
                layer_sums(
                    each,
                    read_BL[..., None].to(each).expand(*read_BL.shape, each.shape[1]),
                    mask_BL,
                    causal=self.causal,
                )
                for each, read_BL in zip(attention, read, strict=True)
            ],
            reference,
            loss_B,
            self.utility.examples(output, batch, reference),
        )

    @cached_property
    def idf_V(self) -> Tensor:
        """Rarity of every token id among the reference texts."""
        return idf_table(self.texts.reference(), self.model.get_input_embeddings().num_embeddings)

    @cached_property
    def _special_ids(self) -> set[int]:
        """Ids of structure, not of text; an unknown word is text."""
        kinds = ("cls", "sep", "pad", "bos", "eos", "mask")
        ids = {getattr(self.tokenizer, f"{kind}_token_id", None) for kind in kinds}
        return {each for each in ids if each is not None}

    def _utility(self) -> Utility:
        config, head = self.config, self.loaded.task
        if config.task == "wikitext2" and head != "lm":
            raise EconomyError(
                f"model {config.model!r} predicts no next token, so it has no perplexity; choose "
                "a decoder such as 'smollm2', or task = 'auto'"
            )
        if config.task in ("auto", "wikitext2"):
            return Perplexity() if head == "lm" else EmbeddingFidelity()
        if head != "classify":
            raise EconomyError(
                f"model {config.model!r} has no head for task {config.task!r}; set task = "
                "'auto' for fidelity to the dense model, or give a fine-tuned model's folder"
            )
        data = load_task(config.task, "validation")
        return LabelledScore(data.metric, data.regression)
