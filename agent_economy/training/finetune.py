"""Fine-tune a dense encoder on a labelled task: the frozen model that studies start from.

AdamW (Loshchilov and Hutter 2019) with linear warm-up and decay, gradients clipped at norm 1, rows
batched by length; trained to the last epoch, the development part only measured at the end.
Nothing random has a state to keep: the order of an epoch and the dropout of a step come from the
seed tree, so a checkpoint is weights, moments and the step number, and a resumed training ends
with the very weights of an uninterrupted one. (The same seed gives the same bytes with the same
versions and number of threads.)
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from agent_economy.devices import one_line_if_out_of_memory
from agent_economy.errors import EconomyError
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.glue import load_task
from agent_economy.tasks.scores import score
from agent_economy.training.batches import Rows, encode_rows, in_order, row_limit, shuffled
from agent_economy.training.classifier import load_encoder, with_head
from agent_economy.training.folder import FINETUNE_RECORD, TrainingFolder
from agent_economy.training.objective import task_loss
from agent_economy.training.opening import SAVE_SECONDS, begun, filled, processes, refuse_who_saw
from agent_economy.training.optimising import CLIP_NORM, decay_groups
from agent_economy.training.parts import digest, divided
from agent_economy.training.progress import progress_bar
from agent_economy.training.schedule import warmth
from agent_economy.training.settings import FinetuneSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def finetune(
    settings: FinetuneSettings,
    out: Path,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> dict[str, Any]:
    """Fine-tune a model, or do what is left of it, and leave a folder that `zoo.load` takes.

    Nothing is written before model and data are loaded, so bad input leaves no folder behind.

    Args:
        settings: what to train.
        out: the folder; made if needed.
        resume: take up an unfinished training of the same settings that the folder may hold.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
        save_seconds: between checkpoints.

    Returns:
        What ``finetune.json`` holds: score on the development part, settings, versions, ...

    Raises:
        EconomyError: bad input, a full disk, a training that diverged, too little memory: one line.
        Interrupted: Ctrl-C, with the way to resume.
    """
    return filled(
        out,
        settings,
        FINETUNE_RECORD,
        resume,
        lambda folder, console: _finetune(
            settings, folder, resume, data_dir, save_seconds, console
        ),
    )


@one_line_if_out_of_memory("lower --batch-size or --max-tokens")
def _finetune(
    settings: FinetuneSettings,
    folder: TrainingFolder,
    resume: bool,
    data_dir: Path | None,
    save_seconds: float,
    console: Console,
) -> None:
    train = divided(load_task(settings.task, "train", data_dir), settings)["train"]
    development = load_task(settings.task, "validation", data_dir)
    torch.manual_seed(seed_for(settings.seed, "finetune", "head"))
    state = processes()
    if state.num_processes > 1:
        raise EconomyError("finetune runs in one process; start it without a launcher")
    encoder = load_encoder(settings.model)
    refuse_who_saw(settings)
    tokenizer = encoder.tokenizer
    positions = getattr(encoder.model.config, "max_position_embeddings", None)
    pairs = train.sentences2 is not None
    limit = row_limit(tokenizer, positions, pairs, settings.max_tokens)
    model = with_head(encoder.model, train).to(state.device)
    parts = {"train": train, "development": development}
    rows = {part: encode_rows(tokenizer, data, limit) for part, data in parts.items()}
    for part, encoded in rows.items():
        if encoded.cut:
            console.print(f"{encoded.cut} of {len(encoded)} {part} examples cut to {limit} tokens")
    about = {
        "weights": encoder.source,
        "max_tokens": limit,
        "examples": {part: len(encoded) for part, encoded in rows.items()},
        "cut": {part: encoded.cut for part, encoded in rows.items()},
        "data_hashes": {part: digest(data) for part, data in parts.items()},
        "device": str(state.device),
    }
    with begun(folder, resume, about, console) as needed:
        if not needed:
            return
        loss = _train(model, rows["train"], settings, folder, save_seconds, console)
        result = {
            "task": settings.task,
            "metric": train.metric,
            "score": _measure(model, rows["development"], development, settings),
            "n": len(development),
            "seed": settings.seed,
            "epochs": settings.epochs,
            "train_loss": loss,
        }
        folder.finish(lambda at: _write(model, tokenizer, at), result)


def _write(model: PreTrainedModel, tokenizer: Any, at: Path) -> None:
    model.cpu().save_pretrained(at)
    tokenizer.save_pretrained(at)


def _train(
    model: PreTrainedModel,
    rows: Rows,
    settings: FinetuneSettings,
    folder: TrainingFolder,
    save_seconds: float,
    console: Console,
) -> list[float]:
    """Train in place, from the folder's checkpoint where it has one; mean loss of each epoch."""
    optimiser = torch.optim.AdamW(decay_groups(model), lr=settings.learning_rate)
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    steps = per_epoch * settings.epochs
    loss_E = torch.zeros(settings.epochs, dtype=torch.float64)
    first = _restore(folder, model, optimiser, loss_E)
    lengths_B = rows.lengths_B
    last_saved = time.monotonic()
    model.train()
    with progress_bar(console, ("loss",)) as progress:
        bar = progress.add_task(settings.task, total=steps, completed=first, loss=math.nan)
        for step in range(first, steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0 or step == first:
                seed = seed_for(settings.seed, "finetune", "order", epoch)
                batches = shuffled(lengths_B, settings.batch_size, seed)
            torch.manual_seed(seed_for(settings.seed, "finetune", "dropout", step))
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * warmth(step, steps)
            loss = _step(model, optimiser, *rows.batch(batches[place], model.device))
            if not math.isfinite(loss):
                kept = "nothing was saved"
                if folder.saved() is not None:
                    kept = f"the checkpoint from before it is kept in {folder.folder}"
                where = f"the loss or its gradient is no number at step {step + 1} of {steps}"
                raise _diverged(settings, f"{where}; {kept}")
            loss_E[epoch] += loss * len(batches[place])
            progress.update(bar, advance=1, loss=loss)
            if place == per_epoch - 1:
                mean = loss_E[epoch] / len(rows)
                console.print(f"epoch {epoch + 1} of {settings.epochs}: training loss {mean:.4f}")
            if time.monotonic() - last_saved >= save_seconds or step == steps - 1:
                folder.save(_checkpoint(model, optimiser, loss_E, step + 1))
                last_saved = time.monotonic()
    return [float(mean) for mean in loss_E / len(rows)]


def _step(
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    inputs: dict[str, Tensor],
    labels_B: Tensor,
) -> float:
    """One step down the mean squared error, or the cross-entropy.

    Returns:
        It; NaN where it or its gradient is no number.
    """
    loss = task_loss(model(**inputs).logits, labels_B)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimiser.step()
    optimiser.zero_grad()
    return float(torch.where(norm.isfinite(), loss.detach(), math.nan))


def _checkpoint(
    model: PreTrainedModel, optimiser: torch.optim.Optimizer, loss_E: Tensor, step: int
) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {
        **{f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"optimiser.{i}.{key}": of[key] for i, of in state.items() for key in of},
        "loss_E": loss_E,
        "step": torch.tensor(step),
    }


def _restore(
    folder: TrainingFolder,
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    loss_E: Tensor,
) -> int:
    """Put the folder's checkpoint, if any, back into its places; returns the step to go on with."""
    tensors = folder.saved()
    if tensors is None:
        return 0
    weights, state = {}, optimiser.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("model."):
            weights[name.removeprefix("model.")] = tensor
        elif name.startswith("optimiser."):
            _, place, key = name.split(".")
            state["state"].setdefault(int(place), {})[key] = tensor
    model.load_state_dict(weights)
    optimiser.load_state_dict(state)
    loss_E.copy_(tensors["loss_E"])
    return int(tensors["step"])


@torch.no_grad()
def _measure(
    model: PreTrainedModel, rows: Rows, data: TaskData, settings: FinetuneSettings
) -> float:
    """The task's score of the model's predictions; it stays in evaluation mode."""
    model.eval()
    guess = np.zeros(len(rows))
    for chosen in in_order(rows.lengths_B, 64):
        inputs, _ = rows.batch(chosen, model.device)
        logits = model(**inputs).logits.cpu()
        if not torch.isfinite(logits).all():  # the last step of all may have been the bad one
            raise _diverged(settings, "the trained model's outputs are not numbers")
        guess[chosen] = (logits.squeeze(-1) if data.regression else logits.argmax(-1)).numpy()
    return score(data.metric, guess, data.labels)


def _diverged(settings: FinetuneSettings, how: str) -> EconomyError:
    return EconomyError(
        f"the training diverged ({how}); lower --learning-rate {settings.learning_rate:g} and "
        "choose another -o"
    )
