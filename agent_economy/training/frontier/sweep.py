"""A frontier: methods x budgets x seeds on one task, as a resumable sweep of trainings."""

from __future__ import annotations

import os
from pathlib import Path

from agent_economy.runs.config import load_toml
from agent_economy.training.frontier.cells import is_complete
from agent_economy.training.frontier.jobs import jobs_of
from agent_economy.training.frontier.settings import FrontierSettings


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
    from agent_economy.training.frontier.tables import collect

    own = out / "config.toml"
    if config is None and resume and own.is_file():
        config = own
    settings = load_toml(FrontierSettings, config, overrides)
    if data_dir is not None:
        os.environ["AGENT_ECONOMY_DATA"] = str(data_dir)
    sweep = Sweep(
        out,
        jobs_of(settings, out),
        done=is_complete,
        config=settings,
        command=f"agent-economy train --frontier -o {out} --resume",
        may_change=("seeds", "budgets", "rivals"),
    )
    return sweep.run(workers=jobs, resume=resume, finish=collect)
