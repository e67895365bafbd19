"""A frontier: methods x budgets x seeds on one task, as a resumable sweep of trainings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agent_economy.config import Named
from agent_economy.errors import EconomyError, unknown
from agent_economy.runs.config import StrictModel, load_toml
from agent_economy.runs.reader import CELLS, COMPLETE
from agent_economy.training.frontier_cells import DENSE, ECONOMY, RIVALS

if TYPE_CHECKING:
    from agent_economy.runs.sweep import Job

#: Every rival as a method of ``training.methods`` and its options.
MENU: dict[str, Named] = {
    "dense": Named(name="dense"),
    "dense_on": Named(name="dense_on"),
    "random": Named(name="static_mask", options={"mask": "random_mask"}),
    "magnitude": Named(name="static_mask", options={"mask": "magnitude_mask"}),
    "michel": Named(name="static_mask", options={"mask": "michel_mask"}),
    "kwon": Named(name="static_mask", options={"mask": "kwon_mask", "train": False}),
    "fisher_retrain": Named(name="static_mask", options={"mask": "fisher_mask"}),
    "l0": Named(name="l0"),
    "mixture_of_depths": Named(
        name="per_token", options={"policy": "router", "mechanism": "token_top_k"}
    ),
    "adaptive_modules": Named(
        name="per_token", options={"policy": "learner_gate", "mechanism": "ordered_learners"}
    ),
}


class DenseSettings(StrictModel):
    """The fine-tuning that every cell of a seed starts from.

    Attributes:
        model: alias, folder or hub id of an encoder.
        epochs: passes over the training part.
        batch_size: rows per step.
        learning_rate: at its height.
    """

    model: str = "minilm"
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)


class FrontierSettings(StrictModel):
    """Everything that a frontier depends on, the data aside.

    Attributes:
        task: ``stsb``, ``cola``, ``sst2`` or ``mnli``.
        seeds: of trainings, teachers included.
        budgets: agent FLOPs over the dense model's.
        rivals: whom the economy meets.
        economy: the variant that stands in the tables as ``market``, declared here beforehand.
        many: options of one more economy whose budget is drawn batch by batch (``budgets``: from,
        to);
            the one model then stands in the tables as ``market_many`` at every budget.
        dense: how the dense models are made.
        train: settings of all trainings, see ``TrainSettings``.
        epochs: other numbers of epochs by budget, for all methods alike: ``{"0.25" = 16}``.
        limit: how many training examples; None: all.
        hold_out: share of the training part that is kept apart, for choosing among variants.
    """

    task: str
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    budgets: list[float] = Field([0.6, 0.4, 0.25, 0.15], min_length=1)
    rivals: list[str] = Field(list(RIVALS))
    economy: Named = Named(name="market")
    many: dict[str, Any] | None = None
    dense: DenseSettings = DenseSettings()
    train: dict[str, Any] = Field(default_factory=dict)
    epochs: dict[str, int] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)
    hold_out: float = Field(0.0, ge=0, lt=1)


def train_frontier(
    config: Path | None,
    overrides: list[str],
    out: Path,
    jobs: int,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
) -> Path:
    """Train a family of models and their rivals, or what is left of them; returns the folder.

    Args:
        config: TOML file with `FrontierSettings`; None takes the folder's own on resuming.
        overrides: ``key=value`` settings.
        out: the sweep's folder.
        jobs: trainings side by side.
        resume: take up the sweep that the folder holds; its seeds, budgets and rivals may grow.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.

    Raises:
        EconomyError: bad input, or the cells that failed.
    """
    from agent_economy.runs.sweep import Sweep
    from agent_economy.training.frontier_tables import collect

    own = out / "config.toml"
    if config is None and resume and own.is_file():
        config = own
    settings = load_toml(FrontierSettings, config, overrides)
    if data_dir is not None:
        os.environ["AGENT_ECONOMY_DATA"] = str(data_dir)
    sweep = Sweep(
        out,
        _jobs(settings, out),
        done=_done,
        config=settings,
        command=f"agent-economy train --frontier -o {out} --resume",
        may_change=("seeds", "budgets", "rivals"),
    )
    return sweep.run(workers=jobs, resume=resume, finish=collect)


def _done(cell: Path) -> bool:
    """Whether a cell's training, or a teacher's, is complete."""
    for record in ("train.json", "finetune.json"):
        try:
            return bool(json.loads((cell / record).read_text("utf-8"))["status"] == COMPLETE)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False


def _jobs(settings: FrontierSettings, out: Path) -> list[Job]:
    """Teachers first; then seed by seed, so that a first seed is whole early."""
    for rival in settings.rivals:
        if rival not in MENU:
            raise unknown("rival", rival, MENU)
    for budget in settings.budgets:
        if not 0 < budget < 1:
            raise EconomyError(f"budgets: {budget:g} is not between 0 and 1")
    menu = {ECONOMY: settings.economy, **{name: MENU[name] for name in settings.rivals}}
    jobs = [_teacher(settings, out, seed) for seed in settings.seeds]
    for seed in settings.seeds:
        for method, named in menu.items():
            if method in DENSE:
                jobs.append(_cell(settings, out, method, named, 1.0, seed))
        for budget in settings.budgets:
            for method, named in menu.items():
                if method not in DENSE:
                    jobs.append(_cell(settings, out, method, named, budget, seed))
        if settings.many is not None:
            jobs += _many(settings, out, seed)
    return jobs


def _many(settings: FrontierSettings, out: Path, seed: int) -> list[Job]:
    """One model for many budgets, and its score at each of them."""
    from agent_economy.runs.sweep import Job

    named, one = Named(name="market", options=settings.many or {}), f"many-{seed}"
    trained = _cell(settings, out, "many", named, max(settings.budgets), seed)
    jobs = [Job(one, (*_command("train", out, one), *trained.argv[7:]), trained.after)]
    for budget in settings.budgets:
        name = f"market_many-{budget:g}-{seed}"
        words = ["--task", settings.task, "--budget", f"{budget:g}", "-o", str(out / CELLS / name)]
        verb = (sys.executable, "-m", "agent_economy", "eval", str(out / CELLS / one))
        jobs.append(Job(name, (*verb, *words), after=(one,)))
    return jobs


def _teacher(settings: FrontierSettings, out: Path, seed: int) -> Job:
    from agent_economy.runs.sweep import Job

    options = {"task": settings.task, "seed": seed, **settings.dense.model_dump()}
    extra = {"limit": settings.limit, "hold_out": settings.hold_out or None}
    words = [f"--{key.replace('_', '-')}" for key in options]
    argv = [word for pair in zip(words, map(str, options.values()), strict=True) for word in pair]
    for key, value in extra.items():
        if value is not None:
            argv += [f"--{key.replace('_', '-')}", str(value)]
    name = f"teacher-{seed}"
    return Job(name, (*_command("finetune", out, name), *argv))


def _cell(
    settings: FrontierSettings, out: Path, method: str, named: Named, budget: float, seed: int
) -> Job:
    from agent_economy.runs.sweep import Job

    name = f"{method}-{budget:g}-{seed}"
    tree: dict[str, Any] = {
        **settings.train,
        "task": settings.task,
        "model": str(out / CELLS / f"teacher-{seed}"),
        "method": named.model_dump(),
        "budget": budget,
        "seed": seed,
        "hold_out": settings.hold_out,
    }
    if f"{budget:g}" in settings.epochs:
        tree["epochs"] = settings.epochs[f"{budget:g}"]
    if settings.limit is not None:
        tree["limit"] = settings.limit
    argv = [word for key, value in tree.items() for word in ("-s", f"{key}={_toml(value)}")]
    return Job(name, (*_command("train", out, name), *argv), after=(f"teacher-{seed}",))


def _command(verb: str, out: Path, name: str) -> tuple[str, ...]:
    cell = str(out / CELLS / name)
    return (sys.executable, "-m", "agent_economy", verb, "-o", cell, "--resume")


def _toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
