"""The trainings that a frontier is made of: a command line for every teacher and every cell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.config import Named
from agent_economy.runs.reader import CELLS
from agent_economy.training.frontier.cells import DENSE, ECONOMY
from agent_economy.training.frontier.settings import MENU, FrontierSettings, many_of
from agent_economy.training.parts import WIKITEXT

if TYPE_CHECKING:
    from agent_economy.runs.sweep import Job


def jobs_of(settings: FrontierSettings, out: Path) -> list[Job]:
    """Teachers first; then seed by seed, so that a first seed is whole early.

    Args:
        settings: checked here.
        out: the sweep's folder.

    Raises:
        EconomyError: settings that no cell could be made of, see ``FrontierSettings.check``.
    """
    settings.check()
    menu = {ECONOMY: settings.economy, **{name: MENU[name] for name in settings.rivals}}
    jobs = []
    if settings.task != WIKITEXT:  # a decoder is dense and trained as it comes
        jobs += [_teacher(settings, out, seed) for seed in settings.seeds]
    for seed in settings.seeds:
        for method, named in menu.items():
            if method in DENSE:
                places = _places(settings, method)
                jobs += [_cell(settings, out, method, named, at, seed) for at in places]
        for budget in settings.budgets:
            for method, named in menu.items():
                if method not in DENSE:
                    jobs.append(_cell(settings, out, method, named, budget, seed))
        if settings.many is not None:
            jobs += _many(settings, out, seed)
    return jobs


def _places(settings: FrontierSettings, method: str) -> list[float]:
    """Where dense models are needed: at 1, and at budgets with epochs of their own.

    A model trained on is a fair reference for those that were trained for as long.
    """
    if MENU[method].name != "dense_on":
        return [1.0]
    usual = settings.epochs_at(1.0)
    own = [b for b in settings.budgets if settings.epochs_at(b) != usual]
    return [*([1.0] if len(own) < len(settings.budgets) else []), *own]


def _many(settings: FrontierSettings, out: Path, seed: int) -> list[Job]:
    """One model for many budgets, and its score at each of them."""
    from agent_economy.runs.sweep import Job

    named, one = many_of(settings), f"many-{seed}"
    budget, longest = max(settings.budgets), max(settings.epochs_at(b) for b in settings.budgets)
    trained = _cell(settings, out, "many", named, budget, seed, epochs=longest)
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
    extra = {
        "limit": settings.limit,
        "hold_out": settings.hold_out or None,
        "test_share": settings.test_share,
    }
    words = [f"--{key.replace('_', '-')}" for key in options]
    argv = [word for pair in zip(words, map(str, options.values()), strict=True) for word in pair]
    for key, value in extra.items():
        if value is not None:
            argv += [f"--{key.replace('_', '-')}", str(value)]
    name = f"teacher-{seed}"
    return Job(name, (*_command("finetune", out, name), *argv))


def _cell(
    settings: FrontierSettings,
    out: Path,
    method: str,
    named: Named,
    budget: float,
    seed: int,
    *,
    epochs: int | None = None,
) -> Job:
    from agent_economy.runs.sweep import Job

    name, decoder = f"{method}-{budget:g}-{seed}", settings.task == WIKITEXT
    tree: dict[str, Any] = {
        **settings.train,
        "task": settings.task,
        "model": settings.dense.model if decoder else str(out / CELLS / f"teacher-{seed}"),
        "method": named.model_dump(),
        "budget": 1.0 if method in DENSE else budget,
        "seed": seed,
        "hold_out": settings.hold_out,
    }
    epochs = settings.epochs_at(budget) if epochs is None else epochs
    if epochs != settings.epochs_at(1.0):
        tree["epochs"] = epochs
    if settings.limit is not None:
        tree["limit"] = settings.limit
    if settings.test_share is not None:
        tree["test_share"] = settings.test_share
    argv = [word for key, value in tree.items() for word in ("-s", f"{key}={_toml(value)}")]
    after = () if decoder else (f"teacher-{seed}",)
    return Job(name, (*_command("train", out, name), *argv), after=after)


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
