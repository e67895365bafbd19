"""What a scarce economy's output says, beside the dense model's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.tasks.utility import EmbeddingFidelity, NextTokenFidelity, Utility
from agent_economy.zoo.load import LoadedModel

Batch = dict[str, Any]

_TOP = 5


@dataclass(frozen=True)
class Comparison:
    """One sentence, dense and scarce.

    Attributes:
        value: the utility.
        unit: what it is: cosine to dense, or nats of divergence.
        title: what the table below compares.
        header: its column names.
        rows: what the dense model says and what the scarce one says, best first.
    """

    value: float
    unit: str
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Comparer(ABC):
    """Compares outputs of one kind of model.

    Attributes:
        utility: what is measured, and what calibration differentiates.
    """

    utility: Utility

    @abstractmethod
    def compare(self, batch: Batch, dense: Any, scarce: Any) -> Comparison:
        """Two outputs for a batch of one row."""


class EmbeddingComparer(Comparer):
    """Sentence embeddings: their cosine, and the texts that each finds nearest.

    Args:
        model: the dense model.
        pool: batches of the texts to find.
        texts: those texts.
    """

    def __init__(self, model: Any, pool: list[Batch], texts: list[str]) -> None:
        self.utility, self.texts = EmbeddingFidelity(), texts
        with torch.no_grad():
            found = [self.utility.reference(model(**batch), batch) for batch in pool]
        self.pool_TD: Float[Tensor, "T D"] = torch.cat(found)

    def compare(self, batch: Batch, dense: Any, scarce: Any) -> Comparison:
        """See ``Comparer.compare``."""
        found = [self.utility.reference(output, batch) for output in (dense, scarce)]
        cosine = float((found[0] * found[1]).sum())
        tops = [(each_BD @ self.pool_TD.T)[0].topk(min(_TOP, len(self.texts))) for each_BD in found]
        sides = [
            [(self.texts[text], f"{cosine:.3f}") for text, cosine in zip(*pairs, strict=True)]
            for pairs in ((top.indices.tolist(), top.values.tolist()) for top in tops)
        ]
        return Comparison(
            value=cosine,
            unit=self.utility.unit,
            title="Nearest texts",
            header=("dense finds", "cosine", "scarce finds", "cosine"),
            rows=[
                (_short(ours[0]), ours[1], _short(theirs[0]), theirs[1])
                for ours, theirs in zip(*sides, strict=True)
            ],
        )


class NextTokenComparer(Comparer):
    """Next-token distributions: their divergence, and what each would say next.

    Args:
        tokenizer: turns token ids into text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.utility, self.tokenizer = NextTokenFidelity(), tokenizer

    def compare(self, batch: Batch, dense: Any, scarce: Any) -> Comparison:
        """See ``Comparer.compare``."""
        reference = self.utility.reference(dense, batch)
        sides = []
        for output in (dense, scarce):
            top = output.logits[0, -1].float().softmax(-1).topk(_TOP)
            ids = top.indices.tolist()
            names = [self.tokenizer.decode([token]).replace("\n", "↵") for token in ids]
            sides.append(
                [(name, f"{p:.3f}") for name, p in zip(names, top.values.tolist(), strict=True)]
            )
        return Comparison(
            value=self.utility.measure(scarce, batch, reference),
            unit=self.utility.unit,
            title="Next token",
            header=("dense says", "probability", "scarce says", "probability"),
            rows=[(*ours, *theirs) for ours, theirs in zip(*sides, strict=True)],
        )


def comparer_for(loaded: LoadedModel, pool: list[Batch], texts: list[str]) -> Comparer:
    """The comparer of a model.

    Args:
        loaded: the model.
        pool: batches of the stream's texts.
        texts: those texts.

    Raises:
        EconomyError: the model has a task head, whose output says nothing about a single text.
    """
    if loaded.task == "embedding":
        return EmbeddingComparer(loaded.model, pool, texts)
    if loaded.task == "lm":
        return NextTokenComparer(loaded.tokenizer)
    raise EconomyError(
        f"model {loaded.name!r} has a task head; the live page compares embeddings or next tokens, "
        "so give an embedding model or a language model (-s model=minilm)"
    )


def _short(text: str, characters: int = 90) -> str:
    """The beginning of a text, cut between words."""
    if len(text) <= characters:
        return text
    return text[:characters].rsplit(" ", 1)[0] + " …"
