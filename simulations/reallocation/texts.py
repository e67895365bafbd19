"""Which texts are measured, which calibrate, and which rarity is counted on: never the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agent_economy.errors import EconomyError
from agent_economy.runs.scenario import Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.text import paragraphs, text_digest
from simulations.reallocation.config import ReallocationConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]


@dataclass(frozen=True)
class Texts:
    """The texts of a study as batches, one row a text.

    A labelled task is measured on its validation part and calibrated on its training part. Text
    without labels is divided once: some paragraphs are measured, the rest calibrate.

    Attributes:
        config: the study.
        tokenizer: the model's.
        positions: tokens that the model can take.
        log: the run's log.
        digests: of what was read, for the manifest.
    """

    config: ReallocationConfig
    tokenizer: PreTrainedTokenizerBase
    positions: int
    log: Log
    digests: dict[str, str] = field(default_factory=dict)

    def measured(self, seed: int) -> list[Batch]:
        """A seed's own rows; rows are dealt out to seeds in the config's order."""
        rows, place = self.config.rows, self.config.seeds.index(seed)
        dealt = range(place * rows, (place + 1) * rows)
        return self._batches(self._parts[0], dealt, f"measured, seed {seed}")

    def calibration(self, seed: int) -> list[Batch]:
        """What a seed's policies are fitted on."""
        config, (_, rest) = self.config, self._parts
        order = np.random.default_rng(seed_for(seed, "calibration")).permutation(len(rest))
        return self._batches(rest, order[: config.calibration_texts], f"calibration, seed {seed}")

    def reference(self) -> list[list[int]]:
        """Token ids of the texts that rarity is counted on, special tokens left out."""
        _, rest = self._parts
        texts = [*rest.sentences1, *(rest.sentences2 or [])]
        order = np.random.default_rng(seed_for(0, "rarity")).permutation(len(texts))
        texts = [texts[place] for place in order[: self.config.reference_texts]]
        self.digests[f"{rest.name} reference"] = text_digest(texts)
        return list(self.tokenizer(texts, add_special_tokens=False)["input_ids"])

    # --- parts -------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> tuple[TaskData, TaskData]:
        """Texts to measure, in the order in which they are drawn, and texts never measured."""
        config = self.config
        wanted = config.rows * len(config.seeds)
        if config.task not in ("auto", "wikitext2"):
            data = _shuffled(load_task(config.task, "validation"))
            rest = load_task(config.task, "train")
        else:
            source = config.text if config.task == "auto" else "wikitext-2"
            found = paragraphs(source)
            data = _shuffled(_plain(source, found))
            rest = _plain(source, data.sentences1[wanted:])
        if wanted > len(data) or config.calibration_texts > len(rest):
            raise EconomyError(
                f"{data.name!r} has {len(data)} texts to measure on and {len(rest)} to calibrate "
                f"on; {len(config.seeds)} seeds x {config.rows} rows, or {config.calibration_texts}"
                " calibration texts, are too many: lower rows or calibration_texts"
            )
        return data, rest

    def _batches(self, data: TaskData, places: Iterable[int], what: str) -> list[Batch]:
        """Rows as padded batches; a text longer than a row is cut off."""
        part = _taken(data, np.fromiter(places, dtype=np.int64))
        self.digests[f"{data.name} {what}"] = text_digest(part.sentences1 + (part.sentences2 or []))
        limit = min(self.config.max_tokens, self.positions, self.tokenizer.model_max_length)
        found, cut = [], 0
        for start in range(0, len(part), self.config.batch_size):
            rows = slice(start, start + self.config.batch_size)
            encoded = self.tokenizer(
                part.sentences1[rows],
                part.sentences2[rows] if part.sentences2 else None,
                padding=True,
                padding_side="right",
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            keys = ("input_ids", "attention_mask", "token_type_ids")
            batch = {key: encoded[key] for key in keys if key in encoded}
            cut += int((batch["attention_mask"].sum(1) == limit).sum())
            if self.config.task not in ("auto", "wikitext2"):
                labels = torch.from_numpy(part.labels[rows])
                batch["labels"] = labels.float() if data.regression else labels
            found.append(batch)
        if cut:
            self.log(f"{cut} of {len(part)} {what} texts fill or pass {limit} tokens: cut off")
        return found


def _plain(name: str, texts: list[str]) -> TaskData:
    """Texts without labels."""
    return TaskData(name, texts, None, np.zeros(len(texts)), "", 1)


def _shuffled(data: TaskData) -> TaskData:
    return _taken(data, np.random.default_rng(seed_for(0, "rows")).permutation(len(data)))


def _taken(data: TaskData, places: np.ndarray) -> TaskData:
    """Some examples of a data set, in that order."""
    first = [data.sentences1[place] for place in places]
    second = [data.sentences2[place] for place in places] if data.sentences2 else None
    return TaskData(data.name, first, second, data.labels[places], data.metric, data.num_labels)
