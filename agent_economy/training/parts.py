"""Parts of a task: what is trained on, what is kept apart to choose settings on, what is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agent_economy.errors import EconomyError
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.glue import Split, load_task, read_task_file
from agent_economy.tasks.text import paragraphs, text_digest

WIKITEXT = "wikitext2"
"""The task of decoders: perplexity of the text itself."""


def load_part(task: str, split: Split, data_dir: Path | None) -> TaskData:
    """A part of any task: labelled examples, or paragraphs of WikiText-2, which label themselves.

    WikiText's tokenisation is undone and sentences with ``<unk>`` are left out (``tasks.prose``),
    so perplexities compare with each other and not with published ones.

    Args:
        task: ``stsb``, ``cola``, ``sst2``, ``mnli`` or ``wikitext2``.
        split: ``"train"`` or ``"validation"``.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
    """
    if task == WIKITEXT:
        source = "wikitext-2-train" if split == "train" else "wikitext-2"
        return text_data(paragraphs(source, data_dir))
    return load_task(task, split, data_dir)


def read_part(task: str, file: Path) -> TaskData:
    """A file in a task's local format; for WikiText any UTF-8 text."""
    return text_data(paragraphs(str(file))) if task == WIKITEXT else read_task_file(task, file)


def text_data(texts: list[str]) -> TaskData:
    """Texts without labels."""
    return TaskData(WIKITEXT, texts, None, np.zeros(len(texts), np.int64), "perplexity", 0)


def taken(data: TaskData, keep: np.ndarray[Any, np.dtype[np.int64]]) -> TaskData:
    """Some examples of a data set."""
    second = data.sentences2
    return TaskData(
        data.name,
        [data.sentences1[i] for i in keep],
        [second[i] for i in keep] if second else None,
        data.labels[keep],
        data.metric,
        data.num_labels,
    )


def limited(data: TaskData, limit: int | None, seed: int) -> TaskData:
    """A draw without replacement, in the data's order; all of it where the limit is None."""
    if limit is None or limit >= len(data):
        return data
    draw = np.random.default_rng(seed)
    return taken(data, np.sort(draw.choice(len(data), limit, replace=False)))


def split(data: TaskData, hold_out: float) -> tuple[TaskData, TaskData | None]:
    """The rest, and the share that is kept apart: the same rows whatever a run's seed.

    A teacher and its students must not see each other's selection rows, so the cut depends on the
    data set's size alone.

    Raises:
        EconomyError: nothing would be left on one of the sides.
    """
    if not hold_out:
        return data, None
    count = round(hold_out * len(data))
    if not 0 < count < len(data):
        raise EconomyError(
            f"--hold-out {hold_out:g} of {len(data)} examples leaves one side empty; "
            "give another share"
        )
    order = np.random.default_rng(seed_for(0, "hold_out")).permutation(len(data))
    return taken(data, np.sort(order[count:])), taken(data, np.sort(order[:count]))


def digest(data: TaskData) -> str:
    """SHA-256 of everything that is read of a part."""
    return text_digest([*data.sentences1, *(data.sentences2 or []), *map(str, data.labels)])
