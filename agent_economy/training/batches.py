"""A labelled data set as token rows, and as batches of rows of about the same length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from agent_economy.tasks.data import TaskData

LONGEST = 128
"""Tokens of a row where nobody asks for more or fewer."""

_POOL = 32
"""Batches that are sorted by length together: little padding, yet a different order each epoch."""


class Rows(NamedTuple):
    """Encoded examples.

    Attributes:
        tokens: for each model input (``input_ids``, ``token_type_ids``), one (L,) int64 per row.
        labels_B: class numbers (int64) or targets (float32).
        pad: what each model input is padded with.
        cut: how many examples were longer than a row, and lost their end.
    """

    tokens: dict[str, list[Tensor]]
    labels_B: Tensor
    pad: dict[str, int]
    cut: int

    def __len__(self) -> int:
        """Rows; the fields of the tuple are not counted."""
        return len(self.labels_B)

    @property
    def lengths_B(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Tokens of each row."""
        return np.array([len(row) for row in self.tokens["input_ids"]])

    def batch(
        self, rows: np.ndarray[Any, np.dtype[np.int64]], device: torch.device | str = "cpu"
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Model inputs, padded on the right to (B, L), and labels of the chosen rows."""
        inputs = {
            name: pad_sequence([of_row[i] for i in rows], True, self.pad[name])
            for name, of_row in self.tokens.items()
        }
        lengths = torch.tensor([len(self.tokens["input_ids"][i]) for i in rows])
        inputs["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        placed = {name: tensor.to(device) for name, tensor in inputs.items()}
        return placed, self.labels_B[torch.from_numpy(rows)].to(device)


def row_limit(
    tokenizer: PreTrainedTokenizerBase, positions: int | None, pairs: bool, wanted: int | None
) -> int:
    """The most tokens of a row.

    Args:
        tokenizer: its own limit is respected beside the model's.
        positions: how many tokens the model can take; None: any number.
        pairs: whether a row holds two texts.
        wanted: what the user asked for; None takes `LONGEST`, or what the model can take.

    Raises:
        EconomyError: the model cannot take that many, or no word fits beside the special tokens.
    """
    most = int(min(positions or math.inf, tokenizer.model_max_length))
    least = tokenizer.num_special_tokens_to_add(pair=pairs) + 1 + pairs
    if wanted is not None and wanted > most:
        raise EconomyError(f"max-tokens {wanted} is beyond the model's {most} positions; lower it")
    if wanted is not None and wanted < least:
        raise EconomyError(f"max-tokens {wanted} leaves no room for text; give {least} or more")
    return wanted or min(LONGEST, most)


def encode_rows(tokenizer: PreTrainedTokenizerBase, data: TaskData, limit: int) -> Rows:
    """Tokenise a data set; pairs are encoded as pairs, and cut where the longer text is.

    Args:
        tokenizer: a fast tokenizer.
        data: the examples.
        limit: as `row_limit` gives it.
    """
    first, second = data.sentences1, data.sentences2
    whole = tokenizer(first, second, verbose=False)
    long = [row for row, ids in enumerate(whole["input_ids"]) if len(ids) > limit]
    names = [name for name in ("input_ids", "token_type_ids") if name in whole]
    tokens = {name: [torch.tensor(ids) for ids in whole[name]] for name in names}
    if long:
        shorter = tokenizer(
            [first[row] for row in long],
            [second[row] for row in long] if second else None,
            truncation="longest_first",
            max_length=limit,
        )
        for name in names:
            for row, ids in zip(long, shorter[name], strict=True):
                tokens[name][row] = torch.tensor(ids)
    labels_B = torch.from_numpy(data.labels)
    pad = {"input_ids": int(tokenizer.pad_token_id or 0), "token_type_ids": 0}
    return Rows(tokens, labels_B.float() if data.regression else labels_B, pad, len(long))


def shuffled(
    lengths_B: np.ndarray[Any, np.dtype[np.int64]], batch_size: int, seed: int
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Every row once, in batches of about equal length, in random order.

    Rows are shuffled, sorted by length inside pools of `_POOL` batches, cut into batches, and the
    batches shuffled (Khomenko et al. 2017, arXiv 1708.05604).
    """
    draw = np.random.default_rng(seed)
    order, pool = draw.permutation(len(lengths_B)), _POOL * batch_size
    batches = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths_B[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def in_order(
    lengths_B: np.ndarray[Any, np.dtype[np.int64]], batch_size: int
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Every row once, shortest first, for measuring."""
    rows = np.argsort(lengths_B, kind="stable")
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
