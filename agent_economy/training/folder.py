"""The folder of a training: a record, a checkpoint while it runs, the model at the end.

Layout while running: ``finetune.json`` or ``train.json`` with status ``running``,
``checkpoint.safetensors``. At the end: the model and its tokenizer in Hugging Face format, with an
economy beside them if one was trained, and the record with status ``complete``. ``config.json`` is
written when all else of the model is there, so a folder that loads is whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel, first_difference
from agent_economy.runs.files import (
    TEMPORARY,
    make_folders,
    names_in,
    sync_folder,
    unmake_folders,
    write_atomic,
)
from agent_economy.runs.manifest import environment, now
from agent_economy.runs.reader import COMPLETE
from agent_economy.runs.store import RUNNING
from agent_economy.zoo.load import quiet

if TYPE_CHECKING:
    from torch import Tensor

FINETUNE_RECORD, TRAIN_RECORD = "finetune.json", "train.json"
CHECKPOINT = "checkpoint.safetensors"


class TrainingFolder:
    """One folder, open for writing.

    `check` looks and touches nothing; `make` and `begin` open it; `save` and `finish` fill it.

    Args:
        folder: where the model goes.
        settings: everything that the result depends on, the data aside.
        record: the record's file name, which says what kind of training it is.
    """

    def __init__(self, folder: Path, settings: StrictModel, record: str) -> None:
        self.folder, self._file = folder, record
        self._settings = settings.model_dump(mode="json")
        self._made: list[Path] = []
        self.record: dict[str, Any] = {}

    @property
    def complete(self) -> bool:
        """Whether the folder holds the finished model."""
        return bool(self.record.get("status") == COMPLETE)

    def check(self, resume: bool) -> None:
        """Apply the rules for opening a folder, before anything heavy is loaded.

        Raises:
            EconomyError: the folder is not ours to write, or --resume is needed, or the settings
                differ from those the training began with (the first is named).
        """
        folder = self.folder
        names = names_in(folder)
        if not names:
            return
        if self._file not in names:
            raise EconomyError(f"{folder} holds other files; choose another -o")
        self.record = _read_record(folder / self._file)
        differs = first_difference(self.record["settings"], self._settings)
        if not resume:
            state = "a finished model" if self.complete else "an unfinished training"
            hint = "" if self.complete or differs else ", or --resume to complete it"
            raise EconomyError(f"{folder} holds {state}; choose another -o{hint}")
        if differs:
            key, old, new = differs
            raise EconomyError(
                f"cannot resume: {folder} was begun with {key.replace('_', '-')} = "
                f"{json.dumps(old)}, not {json.dumps(new)}; repeat that or choose another -o"
            )

    def make(self) -> Path:
        """Make the folder where it is missing, for the lock to hold on to; returns it."""
        self._made = make_folders(self.folder)
        return self.folder

    def begin(self, about: Mapping[str, Any]) -> str | None:
        """Write what the model is made with, or take up the training that the folder holds.

        Args:
            about: what to record from the start; ``data_hashes`` must not change until the end,
                nor ``latency.digest``, if there is one.

        Returns:
            What a user should know before the training goes on with other versions, or None.

        Raises:
            EconomyError: the data, or the table of latencies, is not that the training began with.
        """
        here, warning = environment(), None
        for leftover in self.folder.glob(f".*{TEMPORARY}"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if self.record:
            changed = first_difference(self.record["data_hashes"], dict(about["data_hashes"]))
            if changed:
                raise EconomyError(
                    f"cannot resume: {changed[0]} data has changed since the training began; "
                    "choose another -o"
                )
            prices = (of.get("latency", {}).get("digest") for of in (self.record, about))
            if len(set(prices)) > 1:
                raise EconomyError(
                    "cannot resume: the table of latencies has changed since the training began; "
                    "give the former one with -s latency.table=FILE or choose another -o"
                )
            differs = first_difference(self.record.get("versions"), here["versions"])
            if differs:
                package, old, new = differs
                warning = f"the training began with {package} {old} and goes on with {new}"
            self.record["resumed"].append(now())
        else:
            self.record = {
                "status": RUNNING,
                "settings": self._settings,
                **about,
                **here,
                "started": now(),
                "resumed": [],
            }
        self._write_record()
        return warning

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the checkpoint."""
        from safetensors.torch import save

        write_atomic(self.folder / CHECKPOINT, save(dict(tensors)))

    def saved(self) -> dict[str, Tensor] | None:
        """The checkpoint, or None where none was written yet.

        Raises:
            EconomyError: it is damaged.
        """
        from safetensors.torch import load_file

        path = self.folder / CHECKPOINT
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except Exception as error:  # safetensors has its own error type
            raise EconomyError(f"{path} is damaged ({error}); choose another -o") from error

    def finish(self, write: Callable[[Path], None], result: Mapping[str, Any]) -> None:
        """Write the model and its tokenizer, close the record, and let the checkpoint go.

        Killed anywhere in here, the training still resumes.

        Args:
            write: puts everything that belongs to the model into a folder.
            result: what to record.
        """
        temporary = Path(tempfile.mkdtemp(prefix=".model.", suffix=TEMPORARY, dir=self.folder))
        try:
            with quiet():
                write(temporary)
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
                write_atomic(self.folder / path.name, path.read_bytes())
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.record = {**result, **self.record, "status": COMPLETE, "ended": now()}
        self._write_record()
        self.tidy()

    def tidy(self) -> None:
        """Remove what a finished model no longer needs."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Take back a training that failed before its first checkpoint."""
        if not self.record or self.record["resumed"] or (self.folder / CHECKPOINT).exists():
            return
        (self.folder / self._file).unlink(missing_ok=True)
        unmake_folders(self._made)

    def _write_record(self) -> None:
        write_atomic(self.folder / self._file, json.dumps(self.record, indent=2) + "\n")
        sync_folder(self.folder)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
        if {"status", "settings", "data_hashes", "resumed"} <= record.keys():
            return dict(record)
    except (ValueError, AttributeError):
        pass
    raise EconomyError(f"{path} is no record of a training; choose another -o")
