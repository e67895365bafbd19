"""Parts of a task: what is trained on, what settings are chosen on, what is scored.

The training part may give up two shares before anything is trained. *Test* rows are never looked
at until a finished model is scored: whether a row is one depends on its text alone. *Selection*
rows are for choosing settings; who sees those is shown no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent_economy.errors import EconomyError, unknown
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.glue import TASKS, Split, load_task, read_task_file
from agent_economy.tasks.text import paragraphs, text_digest

if TYPE_CHECKING:
    from agent_economy.training.settings import FinetuneSettings, TrainSettings

TRAIN, SELECTION, TEST, DEVELOPMENT = "train", "selection", "test", "development"

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

    Raises:
        EconomyError: no such task, or its files are not there or broken.
    """
    if _is_text(task):
        source = "wikitext-2-train" if split == "train" else "wikitext-2"
        return text_data(paragraphs(source, data_dir))
    return load_task(task, split, data_dir)


def read_part(task: str, file: Path) -> TaskData:
    """A file in a task's local format; for WikiText any UTF-8 text.

    Raises:
        EconomyError: no such task, or the file is not there or broken.
    """
    return text_data(paragraphs(str(file))) if _is_text(task) else read_task_file(task, file)


def _is_text(task: str) -> bool:
    if task not in (*TASKS, WIKITEXT):
        raise unknown("task", task, (*TASKS, WIKITEXT))
    return task == WIKITEXT


def text_data(texts: list[str]) -> TaskData:
    """Texts without labels (all 0), to be scored by perplexity."""
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


def divided(whole: TaskData, settings: FinetuneSettings | TrainSettings) -> dict[str, TaskData]:
    """What a run makes of the training part: ``train``, and what it keeps apart from it.

    Args:
        whole: the training part.
        settings: ``test_share``, ``hold_out``, ``limit`` and ``seed`` are read.

    Raises:
        EconomyError: a share leaves one of the sides empty.
    """
    rest, test = reserved(whole, settings.test_share)
    rest, selection = split(rest, settings.hold_out)
    parts = {TRAIN: limited(rest, settings.limit, seed_for(settings.seed, "limit"))}
    parts |= {SELECTION: selection} if selection is not None else {}
    return parts | ({TEST: test} if test is not None else {})


def all_parts(
    task: str, settings: FinetuneSettings | TrainSettings, data_dir: Path | None
) -> dict[str, TaskData]:
    """Every part of a run by name."""
    parts = divided(load_part(task, "train", data_dir), settings)
    return parts | {DEVELOPMENT: load_part(task, "validation", data_dir)}


def scored_parts(parts: Collection[str]) -> list[str]:
    """Which of a run's parts its finished model is scored on, what is reported first.

    Who chooses settings on selection rows must not see what will be reported.
    """
    if SELECTION in parts:
        return [SELECTION]
    return [part for part in (DEVELOPMENT, TEST) if part in parts]


def reserved(data: TaskData, share: float | None) -> tuple[TaskData, TaskData | None]:
    """The rest, and rows that nothing is trained, chosen or set on.

    A row is one of them if the hash of its text falls below the share, so it is one in every run
    and for every teacher, whatever their seeds, limits and hold-outs; equal texts stay together.

    Raises:
        EconomyError: nothing would be left on one of the sides.
    """
    if share is None:
        return data, None
    second = data.sentences2 or [""] * len(data)
    texts = zip(data.sentences1, second, strict=True)
    place = np.array([_place(one, other) for one, other in texts])
    test = place < share
    if test.all() or not test.any():
        raise EconomyError(
            f"--test-share {share:g} of {len(data)} examples leaves one side empty; "
            "give another share"
        )
    return taken(data, np.flatnonzero(~test)), taken(data, np.flatnonzero(test))


def _place(one: str, other: str) -> float:
    """Where a text's hash lies between 0 and 1."""
    found = hashlib.sha256(f"{one}\x1f{other}".encode()).digest()
    return int.from_bytes(found[:8], "big") / 2**64


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
