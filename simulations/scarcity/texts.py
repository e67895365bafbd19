"""Which texts a seed measures on, calibrates on, and chooses static masks on.

Text without labels: a seed's own draw. Labelled tasks and WikiText-2: the examples are dealt out
once, so that no example is measured under two seeds and seeds together cover as many as there are;
calibration texts come from the training part (WikiText-2: from paragraphs that no seed measures).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent_economy.errors import EconomyError
from agent_economy.runs.scenario import Log
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.encoding import encode
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.text import paragraphs, sample_texts, text_digest
from agent_economy.training.batches import encode_rows, in_order, row_limit
from simulations.scarcity.config import ScarcityConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]


class Measured(NamedTuple):
    """A batch, and which examples of the data set its rows are."""

    batch: Batch
    example_B: list[int]


class Texts(NamedTuple):
    """One seed's batches; no row is in two of the lists."""

    measured: list[Measured]
    calibration: list[Batch]
    selection: list[Batch]


@dataclass(frozen=True)
class Reader:
    """Deals out texts to seeds.

    Attributes:
        config: the study.
        tokenizer: the model's.
        positions: tokens that the model can take.
        log: the run's log.
        digests: of what was read, for the manifest.
    """

    config: ScarcityConfig
    tokenizer: PreTrainedTokenizerBase
    positions: int
    log: Log
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, seed: int) -> Texts:
        """A seed's texts.

        Raises:
            EconomyError: the data set has too few examples for the study.
        """
        return self._drawn(seed) if self.config.task == "auto" else self._dealt(seed)

    @property
    def longest(self) -> int:
        """Tokens in the longest row there can be."""
        return min(self.config.max_tokens, self.positions)

    # --- text without labels -----------------------------------------------------------------

    def _drawn(self, seed: int) -> Texts:
        config = self.config
        wanted = config.steps * config.batch_size
        sizes = (wanted, config.calibration_texts, config.selection_texts)
        texts = sample_texts(config.text, sum(sizes), seed_for(seed, "texts"))
        self.digests[f"{config.text}, seed {seed}"] = text_digest(texts)
        parts, start = [], 0
        for size in sizes:
            parts.append(self._in_batches(texts[start : start + size], cut=size))
            start += size
        rows = range(0, wanted, config.batch_size)
        measured = [
            Measured(batch, list(range(row, row + len(batch["input_ids"]))))
            for row, batch in zip(rows, parts[0], strict=False)
        ]
        return Texts(measured, parts[1], parts[2])

    def _in_batches(self, texts: list[str], cut: int) -> list[Batch]:
        """Encode; a text longer than a row goes over several, of which ``cut`` rows are kept."""
        encoded = encode(self.tokenizer, texts, self.config.max_tokens, self.positions)
        if encoded.message:
            kept = min(cut, len(encoded["input_ids"]))
            self.log(f"{encoded.message}; the first {kept} are used", level="warning")
        size = self.config.batch_size
        rows = range(0, min(cut, len(encoded["input_ids"])), size)
        return [{key: value[row : row + size] for key, value in encoded.items()} for row in rows]

    # --- data sets ---------------------------------------------------------------------------

    def _dealt(self, seed: int) -> Texts:
        config, place = self.config, self.config.seeds.index(seed)
        wanted = config.steps * config.batch_size
        spare = config.calibration_texts + config.selection_texts
        data, other = self._data()
        needed = wanted * len(config.seeds)
        if needed > len(data) or spare > len(other or data) - (0 if other else needed):
            raise EconomyError(
                f"{config.task} has {len(data)} examples to measure on; {len(config.seeds)} seeds "
                f"x {config.steps} steps x {config.batch_size} rows, calibration beside them, are "
                "too many: lower steps, batch_size or calibration_texts"
            )
        dealt = np.random.default_rng(seed_for(0, config.task)).permutation(len(data))
        own = dealt[place * wanted : (place + 1) * wanted]
        rest = dealt[needed:] if other is None else np.arange(len(other))
        drawn = np.random.default_rng(seed_for(seed, "calibration")).permutation(rest)[:spare]
        calibration, selection = np.split(drawn, [config.calibration_texts])
        measured = self._encoded(data, own, f"measured, seed {seed}")
        others = [
            [each.batch for each in self._encoded(other or data, rows, f"{name}, seed {seed}")]
            for name, rows in (("calibration", calibration), ("selection", selection))
        ]
        return Texts(measured, *others)

    def _data(self) -> tuple[TaskData, TaskData | None]:
        """What is measured on, and what calibration texts come from if that is something else."""
        if self.config.task != "wikitext2":
            return load_task(self.config.task, "validation"), load_task(self.config.task, "train")
        texts = paragraphs("wikitext-2")
        return TaskData("wikitext2", texts, None, np.zeros(len(texts)), "perplexity", 1), None

    def _encoded(self, data: TaskData, rows: np.ndarray, what: str) -> list[Measured]:
        """Batches of rows of about equal length, the shortest first."""
        second = data.sentences2
        part = replace(
            data,
            sentences1=[data.sentences1[i] for i in rows],
            sentences2=[second[i] for i in rows] if second else None,
            labels=data.labels[rows],
        )
        texts = part.sentences1 + (part.sentences2 or [])
        self.digests[f"{data.name} {what}"] = text_digest(texts)
        limit = row_limit(self.tokenizer, self.positions, second is not None, self.longest)
        encoded = encode_rows(self.tokenizer, part, limit)
        if encoded.cut:
            self.log(f"{encoded.cut} of {len(rows)} {what} texts pass {limit} tokens: cut off")
        found = []
        for places in in_order(encoded.lengths_B, self.config.batch_size):
            batch, labels_B = encoded.batch(places)
            if data.name != "wikitext2":
                batch["labels"] = labels_B
            found.append(Measured(batch, rows[places].tolist()))
        return found
