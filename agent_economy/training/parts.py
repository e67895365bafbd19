"""Parts of a data set: what is trained on, and what is kept apart to choose hyper-parameters on."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent_economy.errors import EconomyError
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.text import text_digest


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
