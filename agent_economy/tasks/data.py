"""Where data lies, and what a labelled data set is."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from agent_economy.errors import EconomyError

VARIABLE = "AGENT_ECONOMY_DATA"


@dataclass(frozen=True)
class TaskData:
    """One part of a labelled data set.

    Attributes:
        name: the task, as in ``"stsb"``.
        sentences1: one text per example.
        sentences2: the second text of a pair, or None for a single-sentence task.
        labels: one per example: class numbers (int64), or targets (float64) for regression.
        metric: how to score it, a name that `agent_economy.tasks.score` knows.
        num_labels: classes; 1 for regression.
    """

    name: str
    sentences1: list[str]
    sentences2: list[str] | None
    labels: np.ndarray[Any, np.dtype[Any]]
    metric: str
    num_labels: int

    @property
    def regression(self) -> bool:
        """Whether the labels are targets rather than classes."""
        return self.num_labels == 1

    def __len__(self) -> int:
        """Examples."""
        return len(self.sentences1)


def data_dir(chosen: str | Path | None = None) -> Path | None:
    """The folder with data sets: the argument, else ``AGENT_ECONOMY_DATA``, else None.

    There is no other default: the library knows no folder beside itself.

    Raises:
        EconomyError: the folder that was named does not exist.
    """
    named = chosen or os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "the data folder" if chosen else VARIABLE
        raise EconomyError(f"data folder {folder} (from {origin}) does not exist")
    return folder


def data_file(relative: str, chosen: str | Path | None) -> Path | None:
    """The path of one data file, or None where no data folder is set.

    Raises:
        EconomyError: a data folder is set and the file is not in it.
    """
    folder = data_dir(chosen)
    if folder is None:
        return None
    path = folder / relative
    if not path.is_file():
        raise EconomyError(f"data folder {folder} holds no {relative}")
    return path


def from_hub(noun: str, dataset: str, config: str, split: str) -> Any:
    """One split of a hub data set, through the ``datasets`` package.

    Args:
        noun: what the user asked for, for the error.
        dataset: hub id.
        config: the data set's configuration.
        split: for example ``"validation"``.

    Raises:
        EconomyError: ``datasets`` is not installed or the hub cannot be reached; the line
            says how to point at a local folder.
    """
    way = f"set {VARIABLE} to the folder that holds {noun}"
    if find_spec("datasets") is None:
        raise EconomyError(f"no data for {noun!r}: {way} (or `pip install datasets` and a hub)")
    try:
        # Not an import statement: the package is an extra, and type checks run without it.
        datasets = importlib.import_module("datasets")
        return datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the hub client's own exception types are many and change
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EconomyError(f"cannot fetch {noun!r} from the hub ({first}); {way}") from error
