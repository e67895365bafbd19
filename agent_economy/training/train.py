"""Train a model under a compute budget, by the economy or by a rival: one loop for all.

Here everything is loaded, checked and at the end scored; `loop` makes the steps. Where a method
has settled on a static plan, the training goes on with a physically smaller model
(``compaction.shrink``), moments included, and its weights are written back at the end.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from agent_economy.adapters import adapter_for
from agent_economy.devices import one_line_if_out_of_memory
from agent_economy.errors import EconomyError
from agent_economy.executors.reading import reading_of
from agent_economy.registry import build
from agent_economy.tasks.data import TaskData
from agent_economy.training.batches import Rows, encode_rows, row_limit
from agent_economy.training.bench import Bench
from agent_economy.training.classifier import load_for
from agent_economy.training.evaluate import Tables, evaluate, write_tables
from agent_economy.training.folder import TRAIN_RECORD, TrainingFolder
from agent_economy.training.loop import make_steps
from agent_economy.training.methods import METHODS, Method
from agent_economy.training.opening import SAVE_SECONDS, begun, filled, refuse_who_saw
from agent_economy.training.parts import TRAIN, all_parts, digest, scored_parts
from agent_economy.training.pricing import Priced
from agent_economy.training.settings import TrainSettings
from agent_economy.training.student import Student

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    settings: TrainSettings,
    out: Path,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> dict[str, Any]:
    """Train a model, or do what is left of it, and leave a folder with an economy in it.

    Nothing is written before model and data are loaded, so bad input leaves no folder behind.

    Args:
        settings: what to train and how.
        out: the folder; made if needed.
        resume: take up an unfinished training of the same settings that the folder may hold.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
        save_seconds: between checkpoints.

    Returns:
        What ``train.json`` holds: scores, spend, settings, versions, ...

    Raises:
        EconomyError: bad input, a full disk, a loss that is no number, too little memory: one line.
        Interrupted: Ctrl-C, with the way to resume.
    """
    return filled(
        out,
        settings,
        TRAIN_RECORD,
        resume,
        lambda folder, console: _train(settings, folder, resume, data_dir, save_seconds, console),
    )


class _Opened(NamedTuple):
    """Everything loaded and nothing written."""

    bench: Bench
    method: Method
    tokenizer: Any
    parts: dict[str, TaskData]
    rows: dict[str, Rows]
    about: dict[str, Any]


def _open(settings: TrainSettings, accelerator: Accelerator, data_dir: Path | None) -> _Opened:
    parts = all_parts(settings.task, settings, data_dir)
    data = parts[TRAIN]
    loaded = load_for(settings.model, data)
    refuse_who_saw(settings)
    model, tokenizer = loaded.model, loaded.tokenizer
    model.to(accelerator.device)
    adapter = adapter_for(model, settings.block_size)
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = row_limit(tokenizer, positions, data.sentences2 is not None, settings.max_tokens)
    rows = {name: encode_rows(tokenizer, of, limit) for name, of in parts.items()}
    pooled = reading_of(adapter).pooled
    priced = Priced.of(settings, adapter, rows["train"], accelerator.device, pooled=pooled)
    bench = Bench(
        priced.settings,
        model,
        adapter,
        rows[TRAIN],
        data.metric,
        min(int(each.lengths_B.min()) for each in rows.values()),
        max(int(each.lengths_B.max()) for each in rows.values()),
        pooled,
        accelerator.device,
        priced.latency,
    )
    if settings.sort_neurons:
        bench.form()
    method = build(METHODS, settings.method, bench=bench).to(accelerator.device)
    about = {
        "weights": loaded.source,
        "max_tokens": limit,
        "examples": {name: len(each) for name, each in rows.items()},
        "cut": {name: each.cut for name, each in rows.items()},
        "data_hashes": {
            **{name: digest(of) for name, of in parts.items()},
            "teacher": _teacher_digest(settings),
        },
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        **priced.about,
    }
    return _Opened(bench, method, tokenizer, parts, rows, about)


def _teacher_digest(settings: TrainSettings) -> str:
    """Of the weights that the training starts from."""
    weights = Path(settings.model) / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "not local"


def _train(
    settings: TrainSettings,
    folder: TrainingFolder,
    resume: bool,
    data_dir: Path | None,
    save_seconds: float,
    console: Console,
) -> None:
    advice = f"lower -s batch_size={settings.batch_size} or -s max_tokens, or pass --precision bf16"
    with one_line_if_out_of_memory(advice):
        accelerator = _accelerator(settings)
        opened = _open(settings, accelerator, data_dir)
        main = accelerator.is_main_process  # the only one that writes, and that speaks
        console.quiet = console.quiet or not main
        with begun(folder, resume, opened.about, console) if main else nullcontext(True) as needed:
            if not needed:
                return
            accelerator.wait_for_everyone()
            start = time.monotonic()
            student = Student(opened.bench, opened.method)
            losses: list[float] = []
            if opened.method.trains and settings.epochs:
                losses = make_steps(student, accelerator, folder, save_seconds, console)
            else:
                student.settle(None)
            if main:
                seconds = round(time.monotonic() - start, 1)
                _finish(student, opened, folder, {"train_loss": losses, "train_seconds": seconds})
            accelerator.wait_for_everyone()
            if not main:
                folder.check(resume=True)  # reads what the first process has written


def _finish(
    student: Student, opened: _Opened, folder: TrainingFolder, trained: dict[str, Any]
) -> None:
    """Score all that was not trained on, and close the folder."""
    economy, settings = student.economy(), opened.bench.settings
    results: dict[str, Any] = {}
    tables: dict[str, Tables] = {}
    for part in scored_parts(opened.parts):
        results[part], tables[part] = evaluate(economy, opened.rows[part], opened.parts[part])
    measured = next(iter(results.values()))
    result = {
        "task": settings.task,
        "method": settings.method.name,
        "budget_fraction": economy.market.budget_fraction,
        **{key: measured[key] for key in ("metric", "score", "n", "spend_fraction")},
        "parts": results,
        **trained,
    }
    write_tables(folder.folder, tables)
    folder.finish(lambda at: _write(economy, opened.tokenizer, at), result)


def _write(economy: Any, tokenizer: Any, at: Path) -> None:
    economy.save_pretrained(at)
    tokenizer.save_pretrained(at)


def _accelerator(settings: TrainSettings) -> Accelerator:
    from accelerate import Accelerator

    try:
        return Accelerator(mixed_precision=settings.precision)
    except (ValueError, RuntimeError) as error:
        raise EconomyError(
            f"--precision {settings.precision} cannot be had here ({error}); pass --precision no"
        ) from error
