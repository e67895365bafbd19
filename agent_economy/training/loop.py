"""The steps of a training, the same for every method.

AdamW with warm-up and linear decay, gradients clipped, rows batched by length; accelerate brings
device, mixed precision and processes. Nothing random has a state to keep: the order of an epoch,
the dropout and the gates' noise of a step come from the seed tree. A checkpoint is weights,
moments, the method's own tensors and the step, so a killed training resumes with the next step.

Losses are read off the device every few steps (`readings`), and always before a checkpoint is
written: a loss or gradient that is no number stops the training with the step it came from, and
what is saved is from before it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.runs.seeds import seed_for
from agent_economy.training.batches import shuffled
from agent_economy.training.bench import Bench
from agent_economy.training.folder import TrainingFolder
from agent_economy.training.objective import (
    hidden_distance,
    logit_distance,
    next_token_loss,
    task_loss,
)
from agent_economy.training.optimising import CLIP_NORM
from agent_economy.training.progress import progress_bar
from agent_economy.training.readings import Readings
from agent_economy.training.schedule import warmth
from agent_economy.training.settings import TrainSettings
from agent_economy.training.student import Student
from agent_economy.training.teacher import Teacher, entries

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_steps(
    student: Student,
    accelerator: Accelerator,
    folder: TrainingFolder,
    save_seconds: float,
    console: Console,
) -> list[float]:
    """All steps that are left; the mean loss of each epoch.

    Raises:
        EconomyError: a loss or a gradient is no number.
    """
    bench, method, settings = student.bench, student.method, student.bench.settings
    rows, layers = bench.rows, list(range(2, bench.layers, 2)) if settings.hidden else []
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    steps = per_epoch * settings.epochs
    loss_E = torch.zeros(settings.epochs, dtype=torch.float64)
    teacher = _teach(bench, layers, accelerator, console)
    scaler = getattr(accelerator, "scaler", None)
    first = student.restore(folder.saved(), loss_E, scaler)
    world, rank = accelerator.num_processes, accelerator.process_index
    readings = Readings(bench.device)
    last_saved = time.monotonic()
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
            numbers = make_step(student, teacher, chosen, layers, accelerator, scaler)
            readings.note(step, {**numbers, **method.report()})
            bar.update(task, advance=1)
            ends = place == per_epoch - 1
            if not (readings.due or ends):
                continue
            for done, read in readings.take():
                if not math.isfinite(read["loss"]):
                    raise _no_number(settings, folder, done, steps)
                loss_E[epoch] += read["loss"] * len(batches[done % per_epoch])
                shown: dict[str, Any] = read
                bar.update(task, **shown)
            if ends:
                mean = loss_E[epoch] / len(rows)
                console.print(f"epoch {epoch + 1} of {settings.epochs}: training loss {mean:.4f}")
            due = time.monotonic() - last_saved >= save_seconds
            if (due or step == steps - 1) and accelerator.is_main_process:
                folder.save(student.checkpoint(loss_E, step + 1, scaler))
                last_saved = time.monotonic()
    if not student.settled:
        student.settle(None)
    return [float(mean) for mean in loss_E / len(rows)]


def make_step(
    student: Student,
    teacher: Teacher | None,
    chosen: Any,
    layers: list[int],
    accelerator: Accelerator,
    scaler: Any,
) -> dict[str, Tensor]:
    """One step of the optimiser.

    Returns:
        Scalars on the device: ``loss``, NaN where the loss or a gradient was no number, and
        ``spend``, the share of dense FLOPs, where the method says it.
    """
    settings, rows = student.bench.settings, student.bench.rows
    device = accelerator.device
    inputs, labels_B = rows.batch(chosen, device)
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
    sound = student.update(accelerator, scaler, CLIP_NORM)
    loss = loss.detach()
    spend = None if spend is None else spend.detach().to(device)
    if accelerator.num_processes > 1:  # prices must move alike in all processes
        loss = accelerator.reduce(loss, "mean")
        spend = None if spend is None else accelerator.reduce(spend, "mean")
    student.after(spend)
    loss = torch.where(sound, loss, math.nan)
    return {"loss": loss} if spend is None else {"loss": loss, "spend": spend}


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
        f"the loss or its gradient is no number at step {step + 1} of {steps} "
        f"({kept} in {folder.folder}); lower "
        f"-s learning_rate={settings.learning_rate:g} and choose another -o"
    )
