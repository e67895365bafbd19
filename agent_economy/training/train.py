"""Train a model under a compute budget, by the economy or by a rival: one loop for all.

AdamW with warm-up and linear decay, gradients clipped, rows batched by length; accelerate brings
device, mixed precision and processes. Nothing random has a state to keep: the order of an epoch,
the dropout and the gates' noise of a step come from the seed tree. A checkpoint is weights,
moments, the method's own tensors and the step, so a killed training resumes with the next step.
Where a method has settled on a static plan, the training goes on with a physically smaller model
(``compaction.shrink``), moments included, and its weights are written back at the end.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console

from agent_economy.adapters import adapter_for
from agent_economy.errors import EconomyError
from agent_economy.executors.reading import reading_of
from agent_economy.registry import build
from agent_economy.runs.files import locked, one_line_if_disk_full
from agent_economy.runs.runner import Interrupted
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.training.batches import Rows, encode_rows, row_limit, shuffled
from agent_economy.training.bench import Bench
from agent_economy.training.classifier import load_for
from agent_economy.training.evaluate import Tables, evaluate, write_tables
from agent_economy.training.folder import FINETUNE_RECORD, TRAIN_RECORD, TrainingFolder
from agent_economy.training.methods import METHODS, Method
from agent_economy.training.objective import (
    hidden_distance,
    logit_distance,
    next_token_loss,
    task_loss,
)
from agent_economy.training.optimising import CLIP_NORM
from agent_economy.training.parts import digest, limited, load_part, split
from agent_economy.training.progress import progress_bar
from agent_economy.training.schedule import warmth
from agent_economy.training.settings import TrainSettings
from agent_economy.training.student import Student
from agent_economy.training.teacher import Teacher, entries

if TYPE_CHECKING:
    from accelerate import Accelerator

SAVE_SECONDS = 60.0
"""Between checkpoints: the most that a kill can cost."""


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
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    folder = TrainingFolder(out, settings, TRAIN_RECORD)
    folder.check(resume)
    if folder.complete:
        folder.tidy()
        console.print(f"{out} is already complete")
        return folder.record
    try:
        with torch.random.fork_rng(), one_line_if_disk_full(out):
            _train(settings, folder, resume, data_dir, save_seconds, console)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; repeat the command with --resume to go on") from None
    except torch.OutOfMemoryError as error:
        raise EconomyError(
            f"the device ran out of memory; lower -s batch_size={settings.batch_size} or "
            "-s max_tokens, or pass --precision bf16"
        ) from error
    return folder.record


class _Opened(NamedTuple):
    """Everything loaded and nothing written."""

    bench: Bench
    method: Method
    tokenizer: Any
    parts: dict[str, TaskData]
    rows: dict[str, Rows]
    about: dict[str, Any]


def _open(settings: TrainSettings, accelerator: Accelerator, data_dir: Path | None) -> _Opened:
    whole, selection = split(load_part(settings.task, "train", data_dir), settings.hold_out)
    parts = {"train": limited(whole, settings.limit, seed_for(settings.seed, "limit"))}
    if selection is not None:
        parts["selection"] = selection
    parts["development"] = load_part(settings.task, "validation", data_dir)
    data = parts["train"]
    loaded = load_for(settings.model, data)
    model, tokenizer = loaded.model, loaded.tokenizer
    model.to(accelerator.device)
    adapter = adapter_for(model, settings.block_size)
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = row_limit(tokenizer, positions, data.sentences2 is not None, settings.max_tokens)
    rows = {name: encode_rows(tokenizer, of, limit) for name, of in parts.items()}
    bench = Bench(
        settings,
        model,
        adapter,
        rows["train"],
        data.metric,
        min(int(each.lengths_B.min()) for each in rows.values()),
        max(int(each.lengths_B.max()) for each in rows.values()),
        reading_of(adapter).pooled,
        accelerator.device,
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
    }
    return _Opened(bench, method, tokenizer, parts, rows, about)


def _teacher_digest(settings: TrainSettings) -> str:
    """Of the weights that the training starts from; they must have seen no selection rows.

    Raises:
        EconomyError: the dense model was fine-tuned on rows that are kept apart here.
    """
    folder = Path(settings.model)
    record = folder / FINETUNE_RECORD
    if record.is_file():
        theirs = json.loads(record.read_text("utf-8"))["settings"].get("hold_out", 0.0)
        if settings.hold_out and theirs != settings.hold_out:
            raise EconomyError(
                f"the dense model in {folder} was trained with hold-out {theirs:g}, so it has seen "
                f"the rows that {settings.hold_out:g} keeps apart; fine-tune one with --hold-out "
                f"{settings.hold_out:g}"
            )
    weights = folder / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "not local"


def _train(
    settings: TrainSettings,
    folder: TrainingFolder,
    resume: bool,
    data_dir: Path | None,
    save_seconds: float,
    console: Console,
) -> None:
    accelerator = _accelerator(settings)
    opened = _open(settings, accelerator, data_dir)
    main = accelerator.is_main_process  # the only one that writes
    with locked(folder.make()) if main else nullcontext():
        if main:
            folder.check(resume)  # another training may have been here while the model was loading
            if folder.complete:
                return
            if warning := folder.begin(opened.about):
                console.print(warning, style="yellow")
        accelerator.wait_for_everyone()
        try:
            start = time.monotonic()
            student = Student(opened.bench, opened.method)
            if opened.method.trains and settings.epochs:
                losses = _loop(student, accelerator, folder, save_seconds, console)
            else:
                student.settle(None)
                losses = []
            if main:
                seconds = round(time.monotonic() - start, 1)
                _finish(student, opened, folder, {"train_loss": losses, "train_seconds": seconds})
        except Exception:
            if main:
                folder.discard_if_empty()
            raise
        accelerator.wait_for_everyone()


def _finish(
    student: Student, opened: _Opened, folder: TrainingFolder, trained: dict[str, Any]
) -> None:
    """Score all that was not trained on, and close the folder."""
    economy, settings = student.economy(), opened.bench.settings
    results: dict[str, Any] = {}
    tables: dict[str, Tables] = {}
    # Who chooses settings on held-out rows must not see what will be reported.
    scored = "selection" if "selection" in opened.parts else "development"
    for part in (scored,):
        results[part], tables[part] = evaluate(economy, opened.rows[part], opened.parts[part])
    measured = results[scored]
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


def _loop(
    student: Student,
    accelerator: Accelerator,
    folder: TrainingFolder,
    save_seconds: float,
    console: Console,
) -> list[float]:
    """All steps that are left; the mean loss of each epoch."""
    bench, method, settings = student.bench, student.method, student.bench.settings
    rows, layers = bench.rows, list(range(2, bench.layers, 2)) if settings.hidden else []
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    steps = per_epoch * settings.epochs
    loss_E = torch.zeros(settings.epochs, dtype=torch.float64)
    teacher = _teach(bench, layers, accelerator, console)
    first = student.restore(folder.saved(), loss_E)
    world, rank = accelerator.num_processes, accelerator.process_index
    last_saved = time.monotonic()
    scaler = getattr(accelerator, "scaler", None)
    with progress_bar(console, ("loss", "budget", "spend", "price")) as bar:
        task = bar.add_task(f"{settings.task} {method.name}", total=steps, completed=first)
        for step in range(first, steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0 or step == first:
                batches = shuffled(rows.lengths_B, settings.batch_size, bench.seed("order", epoch))
            if not student.settled and step >= method.settle_at * steps:
                student.settle(step)
                console.print(f"step {step + 1}: {student.standing}")
            torch.manual_seed(seed_for(bench.seed("dropout"), step, rank))
            method.begin(step / steps, step)
            student.set_rates(warmth(step, steps))
            chosen = batches[place]
            if world > 1 and len(chosen) >= world:  # a last, smaller batch is everybody's
                chosen = chosen[rank::world]
            loss, spend = _step(student, teacher, chosen, layers, accelerator, scaler)
            if not math.isfinite(loss):
                raise _no_number(settings, folder, step, steps)  # no step was made with it
            loss_E[epoch] += loss * len(batches[place])
            numbers: dict[str, Any] = {"loss": loss, "spend": spend, **method.report()}
            bar.update(task, advance=1, **numbers)
            if place == per_epoch - 1:
                mean = loss_E[epoch] / len(rows)
                console.print(f"epoch {epoch + 1} of {settings.epochs}: training loss {mean:.4f}")
            due = time.monotonic() - last_saved >= save_seconds
            if (due or step == steps - 1) and accelerator.is_main_process:
                folder.save(student.checkpoint(loss_E, step + 1))
                last_saved = time.monotonic()
    if not student.settled:
        student.settle(None)
    return [float(mean) for mean in loss_E / len(rows)]


def _step(
    student: Student,
    teacher: Teacher | None,
    chosen: Any,
    layers: list[int],
    accelerator: Accelerator,
    scaler: Any,
) -> tuple[float, float]:
    """One step of the optimiser; its loss, and the share of dense FLOPs that it spent."""
    settings, rows = student.bench.settings, student.bench.rows
    device = accelerator.device
    inputs, labels_B = rows.batch(chosen)
    inputs = {key: value.to(device) for key, value in inputs.items()}
    labels_B = labels_B.to(device)
    with accelerator.autocast(), entries(student.layers, layers) as hidden:
        output, spend = student.run(inputs)
    language = student.bench.metric == "perplexity"
    own = next_token_loss(output.logits, inputs) if language else task_loss(output.logits, labels_B)
    loss = settings.task_weight * own
    if teacher is not None and not language:
        theirs_BC = teacher.logits_RC[torch.from_numpy(chosen)].to(device)
        regression = labels_B.is_floating_point()
        loss = loss + settings.logits * logit_distance(
            output.logits, theirs_BC, regression=regression
        )
    if teacher is not None and layers:
        mask_BL = inputs["attention_mask"].bool()
        states = [each.to(device) for each in teacher.hidden(chosen)]
        loss = loss + settings.hidden * hidden_distance(hidden, states, mask_BL)
    whole = loss + student.penalty(spend)
    (scaler.scale(whole) if scaler is not None else whole).backward()
    if not student.update(accelerator, scaler, CLIP_NORM):
        return math.nan, math.nan
    loss = loss.detach()
    spend = None if spend is None else spend.detach().to(device)
    if accelerator.num_processes > 1:  # prices must move alike in all processes
        loss = accelerator.reduce(loss, "mean")
        spend = None if spend is None else accelerator.reduce(spend, "mean")
    student.after(spend)
    return float(loss), float("nan") if spend is None else float(spend)


def _teach(
    bench: Bench, layers: list[int], accelerator: Accelerator, console: Console
) -> Teacher | None:
    """The dense model's outputs for all rows, before anything is trained."""
    settings = bench.settings
    if not (settings.logits or settings.hidden):
        return None
    # A resumed training starts from the same dense folder, so its teacher is the same.
    with console.status("the dense model's outputs"), accelerator.autocast():
        return Teacher(
            bench.model,
            bench.adapter,
            bench.rows,
            layers,
            bench.device,
            predictions=bench.metric != "perplexity",
        )


def _no_number(
    settings: TrainSettings, folder: TrainingFolder, step: int, steps: int
) -> EconomyError:
    kept = "the last good checkpoint is kept" if folder.saved() is not None else "nothing was saved"
    return EconomyError(
        f"the loss is no number at step {step + 1} of {steps} ({kept} in {folder.folder}); lower "
        f"-s learning_rate={settings.learning_rate:g} and choose another -o"
    )
