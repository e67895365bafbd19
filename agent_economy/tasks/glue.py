"""Four GLUE tasks, from local files or the hub.

Local formats (sources and hashes belong beside the data): ``cola/*.tsv`` and ``stsb/*.csv`` are
tab-separated without header, ``sst2/*.tsv`` has a header line, MNLI comes as the JSON lines of
``mnli/dev_matched_a.jsonl`` and as ``mnli/mnli_train_10k.csv``, whose pairs are wrapped in a fixed
question.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agent_economy.errors import EconomyError, unknown
from agent_economy.tasks.data import TaskData, data_file, from_hub
from agent_economy.tasks.text import read_text

Split = Literal["train", "validation"]
Row = tuple[str, str | None, float]

_MNLI_LABELS = {"entailment": 0, "neutral": 1, "contradiction": 2}
_MNLI_QUESTION = re.compile(
    r'For the statement, "(.*)", does the hypothesis "(.*)" '
    r"represent entailment, contradiction, or neutrality\?",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Task:
    read: Callable[[Path], Iterator[Row]]
    files: dict[Split, tuple[str, ...]]
    columns: tuple[str, str | None]
    metric: str
    num_labels: int
    hub_validation: str = "validation"


def load_task(name: str, split: Split, data_dir: str | Path | None = None) -> TaskData:
    """One part of a task.

    Local data wins where a folder is set, so that a study does not change with the network. Its
    CoLA validation part is the in-domain one, and its MNLI parts are samples; the hub's are whole.

    Args:
        name: ``cola``, ``stsb``, ``sst2`` or ``mnli``.
        split: ``"train"`` or ``"validation"``.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.

    Raises:
        EconomyError: an unknown task, no data, or a bad row (file and line are named).
    """
    task = _task(name)
    paths = [data_file(f"{name}/{file}", data_dir) for file in task.files[split]]
    if None in paths:  # no data folder is set
        return _pack(name, task, list(_hub_rows(name, task, split)))
    return _pack(name, task, [row for path in paths if path for row in _rows(task, path)])


def read_task_file(name: str, path: Path) -> TaskData:
    """A task's examples from one file in its local format.

    Raises:
        EconomyError: an unknown task, a file without examples, or a bad row.
    """
    task = _task(name)
    return _pack(name, task, _rows(task, path))


def _task(name: str) -> _Task:
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def _rows(task: _Task, path: Path) -> list[Row]:
    rows = list(task.read(path))
    if not rows:
        raise EconomyError(f"{path} holds no examples; give a file with rows in it")
    return rows


def _pack(name: str, task: _Task, rows: list[Row]) -> TaskData:
    first, second, labels = zip(*rows, strict=True)
    kind = np.float64 if task.num_labels == 1 else np.int64
    pairs = None if task.columns[1] is None else list(second)
    return TaskData(
        name, list(first), pairs, np.array(labels, dtype=kind), task.metric, task.num_labels
    )


def _hub_rows(name: str, task: _Task, split: Split) -> Iterator[Row]:
    part = task.hub_validation if split == "validation" else split
    one, two = task.columns
    for row in from_hub(name, "nyu-mll/glue", name, part):
        yield row[one], row[two] if two else None, row["label"]


def _bad(path: Path, line: int, what: str) -> EconomyError:
    return EconomyError(f"{path}, line {line}: {what}")


def _tsv(path: Path, fewest: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line; quotes inside sentences are literal."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        fields = line.removesuffix("\r").split("\t")
        if fields == [""]:
            continue
        if len(fields) < fewest:
            raise _bad(path, number, f"{len(fields)} tab-separated columns, expected {fewest}")
        yield number, fields


def _class(path: Path, line: int, label: str, classes: dict[str, int]) -> int:
    if label not in classes:
        raise _bad(path, line, f"label {label!r}, expected {' or '.join(classes)}")
    return classes[label]


def _sentence(path: Path, line: int, column: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise _bad(path, line, f"{column} is {text!r}, expected text")
    return text


def _cola(path: Path) -> Iterator[Row]:
    for line, fields in _tsv(path, 4):
        label = _class(path, line, fields[1], {"0": 0, "1": 1})
        yield _sentence(path, line, "sentence", fields[3]), None, label


def _stsb(path: Path) -> Iterator[Row]:
    for line, fields in _tsv(path, 7):  # two licence columns may follow
        try:
            value = float(fields[4])
        except ValueError:
            value = float("nan")
        if not 0 <= value <= 5:
            raise _bad(path, line, f"score {fields[4]!r}, expected a number from 0 to 5")
        one = _sentence(path, line, "sentence1", fields[5])
        yield one, _sentence(path, line, "sentence2", fields[6]), value


def _sst2(path: Path) -> Iterator[Row]:
    rows = _tsv(path, 2)
    first, header = next(rows, (1, []))
    text = next((header.index(name) for name in ("sentence", "content") if name in header), None)
    if text is None or "label" not in header:
        missing = "sentence" if "label" in header else "label"
        raise _bad(path, first, f"column {missing!r} is missing from the header {header}")
    for line, fields in rows:
        if len(fields) < len(header):
            raise _bad(path, line, f"{len(fields)} tab-separated columns, expected {len(header)}")
        label = fields[header.index("label")]
        sentence = _sentence(path, line, "sentence", fields[text]).strip()
        yield sentence, None, _class(path, line, label, {"0": 0, "1": 1})


def _mnli(path: Path) -> Iterator[Row]:
    return _mnli_json(path) if path.suffix == ".jsonl" else _mnli_csv(path)


def _mnli_json(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _bad(path, number, "not a JSON object") from error
        for column in ("premise", "hypothesis", "label"):
            if not isinstance(row, dict) or column not in row:
                raise _bad(path, number, f"field {column!r} is missing")
        label = _class(path, number, str(row["label"]), _MNLI_LABELS)
        premise = _sentence(path, number, "premise", row["premise"])
        yield premise, _sentence(path, number, "hypothesis", row["hypothesis"]), label


def _mnli_csv(path: Path) -> Iterator[Row]:
    reader = csv.DictReader(read_text(path).splitlines(keepends=True), strict=True)
    try:
        yield from _mnli_rows(path, reader)
    except csv.Error as error:  # such as a quote that nothing closes
        raise _bad(path, reader.line_num + 1, f"broken CSV ({error})") from error


def _mnli_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[Row]:
    for column in ("Question", "Answer"):
        if column not in (reader.fieldnames or []):
            raise _bad(path, 1, f"column {column!r} is missing from the header")
    for row in reader:
        pair = _MNLI_QUESTION.fullmatch((row["Question"] or "").strip())
        if pair is None:
            raise _bad(path, reader.line_num, "the pair is not wrapped in the expected question")
        label = _class(path, reader.line_num, row["Answer"] or "", _MNLI_LABELS)
        premise = _sentence(path, reader.line_num, "premise", pair[1])
        yield premise, _sentence(path, reader.line_num, "hypothesis", pair[2]), label


TASKS = {
    "cola": _Task(
        _cola,
        {"train": ("train.tsv", "val.tsv"), "validation": ("in_domain_dev.tsv",)},
        ("sentence", None),
        "matthews",
        2,
    ),
    "stsb": _Task(
        _stsb,
        {"train": ("sts-train.csv",), "validation": ("sts-dev.csv",)},
        ("sentence1", "sentence2"),
        "pearson_spearman",
        1,
    ),
    "sst2": _Task(
        _sst2,
        {"train": ("train.tsv",), "validation": ("dev.tsv",)},
        ("sentence", None),
        "accuracy",
        2,
    ),
    "mnli": _Task(
        _mnli,
        {"train": ("mnli_train_10k.csv",), "validation": ("dev_matched_a.jsonl",)},
        ("premise", "hypothesis"),
        "accuracy",
        3,
        "validation_matched",
    ),
}
