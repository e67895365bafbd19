"""Training: a dense model to start from, then an economy or a whole family of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_economy.errors import EconomyError


def finetune(
    task: Annotated[str, typer.Option("--task", help="stsb, cola, sst2 or mnli.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model.")],
    model: Annotated[str, typer.Option(help="An encoder: alias, folder or hub id.")] = "minilm",
    epochs: Annotated[int, typer.Option(help="Passes over the training examples.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="At its height.")] = 1e-4,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest row; default: 128, or fewer where the model is.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the head, the order and dropout.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Training examples, drawn at random; default: all.")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Share of the training part kept apart, to choose settings on.")
    ] = 0.0,
    test_share: Annotated[
        float | None, typer.Option(help="Share that is never looked at, by a hash of its text.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; default: AGENT_ECONOMY_DATA, then the hub.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete the fine-tuning in the folder.")
    ] = False,
) -> None:
    """Fine-tune a dense model to start from.

    Prints the folder and the score on the development part, which plays no part in training.

    Example: agent-economy finetune --task stsb --model minilm -o runs/stsb
    """
    from agent_economy.training.finetune import finetune as make
    from agent_economy.training.settings import FinetuneSettings

    settings = FinetuneSettings.of(
        task=task,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        seed=seed,
        limit=limit,
        hold_out=hold_out,
        test_share=test_share,
    )
    record = make(settings, out, resume=resume, data_dir=data_dir)
    score = f"{record['metric']} {record['score']:.4f} on {record['n']} examples"
    typer.echo(f"{out}  {task}  {score}")


def train(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the model, or the family.")],
    task: Annotated[
        str | None, typer.Option("--task", help="stsb, cola, sst2, mnli or wikitext2 (decoders).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Start and teacher: a fine-tuned model's folder, or any decoder."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Who allocates compute: market (default), posted, l0, ...")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Agent FLOPs over the dense model's; default 0.25.")
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(help="Instead: milliseconds of a forward (see `bench latency`)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the examples; default 8.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn; default 0.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="no (float32, default), bf16 or fp16.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="TOML file with settings.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("-s", "--set", help="key=value of any setting; repeats.")
    ] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="A family: methods x budgets x seeds, with rivals.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Models of a family that are trained at a time.")] = 1,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; default: AGENT_ECONOMY_DATA, then the hub.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete what the folder holds.")
    ] = False,
) -> None:
    """Train a model under a compute budget, or a whole frontier of them.

    Prints the folder, the score on the development part (on the rows kept apart where there are
    any) and the share of FLOPs that was spent.

    Example: agent-economy train --task stsb --model runs/stsb --budget 0.25 -o runs/stsb-25
    """
    from agent_economy.runs.config import load_toml

    given = {
        "task": task,
        "model": model,
        "method.name": method,
        "budget": budget,
        "latency.budget_ms": budget_ms,
        "epochs": epochs,
        "seed": seed,
        "precision": precision,
    }
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    overrides += setting or []
    if {"budget", "latency.budget_ms"} <= {each.partition("=")[0].strip() for each in overrides}:
        raise EconomyError("--budget and --budget-ms say the same thing twice; leave one out")
    if frontier:
        from agent_economy.training.frontier.sweep import train_frontier

        typer.echo(train_frontier(config, overrides, out, jobs, resume=resume, data_dir=data_dir))
        return
    from agent_economy.training.opening import processes
    from agent_economy.training.settings import TrainSettings
    from agent_economy.training.train import train as make

    settings = load_toml(TrainSettings, config, overrides)
    record = make(settings, out, resume=resume, data_dir=data_dir)
    if not processes().is_main_process:  # of several that train one model, one speaks
        return
    measured = next(iter(record["parts"].values()))
    score = f"{record['metric']} {record['score']:.4f} on {record['n']} examples"
    spend = f"{measured['flops_fraction']:.4f} of dense FLOPs"
    typer.echo(f"{out}  {settings.task}  {score} at {spend}")
