"""What all cells of a study share: the model, its texts, and the dense reference."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.config import Named
from agent_economy.economy import build_policy
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import token_mask
from agent_economy.executors.trace import trace
from agent_economy.metrics.attention import AttentionSpread, attention_spread
from agent_economy.policies import Trace
from agent_economy.runs.scenario import Cell, Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.text import sample_texts, text_digest
from agent_economy.tasks.utility import (
    EmbeddingFidelity,
    LabelledScore,
    NextTokenFidelity,
    Utility,
)
from agent_economy.zoo import load
from simulations.scarcity.config import ScarcityConfig

Batch = dict[str, Any]


class Dense(NamedTuple):
    """What the dense model did with one batch."""

    batch: Batch
    reference: Tensor
    attention: list[Tensor]
    spread: AttentionSpread


class Stream(NamedTuple):
    """One seed's texts: measured batches with their dense reference, and calibration."""

    dense: list[Dense]
    calibration: list[Batch]
    trace: Trace


class Session:
    """The heavy part of a study, loaded once.

    Args:
        config: the study.
        log: the run's log.
    """

    def __init__(self, config: ScarcityConfig, log: Log) -> None:
        self.config, self.log = config, log
        # Attention weights are part of the study, and only the eager kernel returns them.
        self.loaded = load(config.model, attn_implementation="eager")
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.utility = self._utility()
        self.digests: dict[str, str] = {}
        for market in config.markets:  # one that looks ahead on a decoder is refused here
            self._found(market.mechanism, market.scope, 1.0, 0)
        for seed in config.seeds:
            self.stream(seed)
        log("model loaded", source=self.loaded.source, utility=self.utility.unit)

    def data_hashes(self) -> dict[str, str]:
        """Digests of every seed's texts."""
        return self.digests

    def economy(self, cell: Cell) -> Economy:
        """A fresh economy for a cell, its policy calibrated on the seed's calibration texts."""
        seed = int(cell["seed"])
        economy = self._found(
            str(cell["mechanism"]), str(cell["scope"]), float(cell["budget_fraction"]), seed
        )
        economy.set_policy(self._policy(str(cell["policy"]), seed))
        if economy.market.mechanism.learns:
            self._warm_up(economy, seed)
        economy.market.measure_optimum = True
        return economy

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

    @lru_cache(maxsize=16)  # noqa: B019 - a session lives as long as the run
    def _policy(self, name: str, seed: int) -> Any:
        policy = build_policy(Named(name=name), seed)
        policy.fit(self.stream(seed).trace)
        return policy

    def _warm_up(self, economy: Economy, seed: int) -> None:
        """Let the mechanism learn on calibration text; credits and steps start afresh."""
        calibration = self.stream(seed).calibration
        with economy.trying(), torch.no_grad():
            for step in range(self.config.warm_up):
                economy(**calibration[step % len(calibration)])
            learned, prices = economy.market.states, economy.market.prices
        economy.market.states, economy.market.prices = learned, prices

    @lru_cache(maxsize=64)  # noqa: B019
    def stream(self, seed: int) -> Stream:
        """The seed's batches, run densely once, and its calibration pass."""
        config = self.config
        batches, calibration = self._batches(seed)
        dense = [self.dense(batch) for batch in batches]
        adapter = adapter_for(self.model, config.block_size)
        draws = seed_for(seed, "trace")
        measured = trace(adapter, calibration, self.utility.loss, probes=config.probes, seed=draws)
        return Stream(dense, calibration, measured)

    @torch.no_grad()
    def dense(self, batch: Batch) -> Dense:
        """Reference, attention and its spread of the dense model on one batch."""
        output = self.model(**batch, output_attentions=True)
        attention = list(output.attentions)
        mask_BL = token_mask(batch)
        ones = [mask_BL[..., None].expand(*mask_BL.shape, a.shape[1]).float() for a in attention]
        spread = attention_spread(attention, ones, mask_BL)
        return Dense(batch, self.utility.reference(output, batch), attention, spread)

    def showcase(self) -> Batch:
        """The showcase sentence as a batch of one; what is longer than a row is cut off."""
        encoded = self._encode([self.config.showcase])
        return {key: value[:1] for key, value in encoded.items()}

    def tokens(self, batch: Batch) -> list[str]:
        """The written tokens of a batch's first row."""
        ids = batch["input_ids"][0][token_mask(batch)[0]].tolist()
        return [self.tokenizer.decode([i]).strip() or "␣" for i in ids]

    # --- parts -------------------------------------------------------------------------------

    def _utility(self) -> Utility:
        config, task = self.config, self.loaded.task
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

    def _batches(self, seed: int) -> tuple[list[Batch], list[Batch]]:
        """Measured batches and calibration batches, disjoint."""
        config = self.config
        wanted = config.steps * config.batch_size
        if config.task != "auto":
            return self._labelled(seed, wanted)
        texts = sample_texts(
            config.text, wanted + config.calibration_texts, seed_for(seed, "texts")
        )
        self.digests[f"{config.text}, seed {seed}"] = text_digest(texts)
        measured = self._in_batches(texts[:wanted], cut=wanted)
        return measured, self._in_batches(texts[wanted:], cut=config.calibration_texts)

    def _in_batches(self, texts: list[str], cut: int) -> list[Batch]:
        """Encode; a text longer than a row goes over several, of which ``cut`` rows are kept."""
        encoded = self._encode(texts)
        if encoded.message:
            kept = min(cut, len(encoded["input_ids"]))
            self.log(f"{encoded.message}; the first {kept} are used", level="warning")
        size = self.config.batch_size
        rows = range(0, min(cut, len(encoded["input_ids"])), size)
        return [{key: value[row : row + size] for key, value in encoded.items()} for row in rows]

    def _encode(self, texts: list[str]) -> Any:
        return encode(self.tokenizer, texts, self.config.max_tokens, self._positions)

    @property
    def _positions(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", 512))

    def _labelled(self, seed: int, wanted: int) -> tuple[list[Batch], list[Batch]]:
        config = self.config
        batches = []
        for part, count in (("validation", wanted), ("train", config.calibration_texts)):
            data = load_task(config.task, part)
            generator = torch.Generator().manual_seed(seed_for(seed, part))
            chosen = torch.randperm(len(data), generator=generator)[:count].tolist()
            first = [data.sentences1[i] for i in chosen]
            second = [data.sentences2[i] for i in chosen] if data.sentences2 else None
            self.digests[f"{config.task} {part}, seed {seed}"] = text_digest(first + (second or []))
            longest = min(config.max_tokens, self._positions)
            encoded = self.tokenizer(
                first,
                second,
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            cut = int((encoded["attention_mask"].sum(1) == longest).sum())
            if cut:
                self.log(f"{cut} of {count} {part} examples fill or pass {longest} tokens: cut off")
            labels = torch.from_numpy(data.labels[chosen])
            labels = labels.float() if data.regression else labels
            rows = range(0, len(chosen), config.batch_size)
            keys = ("input_ids", "attention_mask", "token_type_ids")
            batches.append(
                [
                    {k: encoded[k][r : r + config.batch_size] for k in keys if k in encoded}
                    | {"labels": labels[r : r + config.batch_size]}
                    for r in rows
                ]
            )
        return batches[0], batches[1]
