"""Texts to padded token tensors, with nothing silently cut off."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class Encoded(dict[str, Any]):
    """A batch that goes into a model as ``model(**encoded)``, and where its rows come from.

    Keys:
        input_ids: (B, L) int64, padded on the right.
        attention_mask: (B, L) int64, 1 for tokens and 0 for padding.

    Attributes:
        text_of_row: for each of the B rows, the index of the text it is (part of).
        chunked: how many texts were longer than a row and went over several.
        limit: the most tokens that a row may have.
    """

    def __init__(
        self, input_ids: Tensor, attention_mask: Tensor, text_of_row: list[int], limit: int
    ) -> None:
        """Hold the tensors as dict items and the rest as attributes."""
        super().__init__(input_ids=input_ids, attention_mask=attention_mask)
        self.text_of_row = text_of_row
        self.limit = limit
        self.chunked = sum(rows > 1 for rows in Counter(text_of_row).values())

    @property
    def message(self) -> str | None:
        """One line to log where texts were chunked, else None."""
        if not self.chunked:
            return None
        texts, rows = len(set(self.text_of_row)), len(self.text_of_row)
        return (
            f"{self.chunked} of {texts} texts are longer than {self.limit} tokens: "
            f"chunked, {rows} rows in all"
        )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    max_tokens: int | None,
    model_positions: int,
) -> Encoded:
    """Tokenise texts into one padded batch; a text too long for a row goes over several.

    Args:
        tokenizer: a fast tokenizer with a padding token.
        texts: at least one, none empty.
        max_tokens: the longest row wanted, special tokens included; None: what the model takes.
        model_positions: the longest row that the model can take. The tokenizer's own limit is
            respected too (MPNet and RoBERTa have two positions fewer than their config says).

    Returns:
        The batch; its ``message`` says what was chunked.

    Raises:
        EconomyError: no text, an empty text, or no room for a token.
    """
    for index, text in enumerate(texts):
        if not text.strip():
            raise EconomyError(f"text {index + 1} of {len(texts)} is empty; remove it")
    if not texts:
        raise EconomyError("there is no text to encode")
    limit = min(max_tokens or model_positions, model_positions, tokenizer.model_max_length)
    room = limit - tokenizer.num_special_tokens_to_add(pair=False)
    if room < 1:
        raise EconomyError(f"max_tokens = {max_tokens} leaves no room for text; raise it")
    batch = tokenizer(
        texts,
        truncation=True,
        max_length=limit,
        return_overflowing_tokens=True,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    rows = batch["overflow_to_sample_mapping"].tolist()
    return Encoded(batch["input_ids"], batch["attention_mask"], rows, limit)
