"""How every training opens its folder, goes on where it was cut off, and leaves in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel
from agent_economy.runs.files import locked, one_line_if_disk_full
from agent_economy.runs.runner import Interrupted
from agent_economy.training.folder import FINETUNE_RECORD, TRAIN_RECORD, TrainingFolder

if TYPE_CHECKING:
    from accelerate import PartialState

    from agent_economy.training.settings import FinetuneSettings, TrainSettings

SAVE_SECONDS = 60.0
"""Between checkpoints: the most that a kill can cost."""


def processes() -> PartialState:
    """Which of the processes of a launch this is, and the device that it should use.

    Unlike ``Accelerator`` it leaves open which precision a training in this process will ask for.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def filled(
    out: Path,
    settings: StrictModel,
    record: str,
    resume: bool,
    fill: Callable[[TrainingFolder, Console], None],
) -> dict[str, Any]:
    """The record of a folder that holds a finished training, made now if it does not yet.

    Args:
        out: the folder.
        settings: of the training.
        record: file name of the record.
        resume: take up an unfinished training of the same settings that the folder may hold.
        fill: trains. It seeds every draw itself; the caller's own stream goes on as if nothing
            had been drawn.

    Raises:
        EconomyError: bad input, or a full disk, in one line.
        Interrupted: Ctrl-C, with the way to resume.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    folder = TrainingFolder(out, settings, record)
    folder.check(resume)
    if folder.complete:
        folder.tidy()
        console.print(f"{out} is already complete")
        return folder.record
    try:
        with torch.random.fork_rng(), one_line_if_disk_full(out):
            fill(folder, console)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; repeat the command with --resume to go on") from None
    return folder.record


def refuse_who_saw(settings: FinetuneSettings | TrainSettings) -> None:
    """Refuse to start from a model that was trained on rows that are kept apart here.

    Whatever made the model counts, a fine-tuning or a training under a budget.

    Raises:
        EconomyError: its folder says that it was, or cannot be read.
    """
    folder = Path(settings.model)
    for path in (folder / FINETUNE_RECORD, folder / TRAIN_RECORD):
        if not path.is_file():
            continue
        try:
            theirs = dict(json.loads(path.read_text("utf-8"))["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise EconomyError(
                f"{path} does not say what the model was trained on; give another model"
            ) from error
        if theirs.get("task") != settings.task:
            continue  # other rows
        # Selection rows are drawn from what test rows leave, so they are the same if both are.
        asked = [("test_share", settings.test_share or settings.hold_out)]
        asked.append(("hold_out", settings.hold_out))
        for key, matters in asked:
            ours, were = getattr(settings, key) or 0.0, theirs.get(key) or 0.0
            if matters and ours != were:
                name = key.replace("_", "-")
                raise EconomyError(
                    f"the model in {folder} was trained with {name} {were:g}, so it has seen rows "
                    f"that {name} {ours:g} keeps apart; give one trained with --{name} {ours:g}"
                )


@contextmanager
def begun(
    folder: TrainingFolder, resume: bool, about: Mapping[str, Any], console: Console
) -> Iterator[bool]:
    """Hold the folder while it is trained in.

    Nothing is left of a training that fails before its first checkpoint.

    Args:
        folder: checked, not made yet.
        resume: as for ``filled``.
        about: see ``TrainingFolder.begin``.
        console: for warnings.

    Yields:
        Whether there is anything to do: another process may have done it in the meantime.
    """
    with locked(folder.make()):
        folder.check(resume)  # somebody may have been here while the model was loading
        if folder.complete:
            yield False
            return
        if warning := folder.begin(about):
            console.print(warning, style="yellow")
        try:
            yield True
        except Exception:
            folder.discard_if_empty()
            raise
