"""A study: run it into a folder, draw what the folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_economy.cli.plugins import load, plugins
from agent_economy.errors import EconomyError

REPORTS = "agent_economy.reports"
"""Entry point ``html``: ``(list of run folders) -> path of the report``."""


def run(
    scenario: Annotated[str, typer.Argument(help="See `agent-economy scenarios`.")],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="TOML file; default: the scenario's own.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("-s", "--set", help="key=value or key.sub=value; repeats.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; default: runs/SCENARIO-N.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Complete the run in the folder.")
    ] = False,
) -> None:
    """Run a study into a run folder.

    Prints the folder's name. With --resume and no -c, the config is the one that the folder holds.

    Example: agent-economy run scarcity -s seeds=[1] -o runs/first
    """
    from agent_economy.runs.folders import run_folder, starting_toml
    from agent_economy.runs.scenario import find_scenario

    study = find_scenario(scenario)
    folder = out or run_folder(study.name, resume)
    toml = config or starting_toml(study, folder, resume)

    from agent_economy.runs.config import load_toml
    from agent_economy.runs.runner import execute

    typer.echo(execute(study, load_toml(study.config_type(), toml, setting or []), folder, resume))


def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="One or more finished run folders.")],
) -> None:
    """Draw finished runs into one report.html.

    Example: agent-economy report runs/first
    """
    points = plugins(REPORTS)
    if "html" not in points:
        raise EconomyError("no installed package writes reports; reinstall agent-economy")
    typer.echo(load(points["html"])(run_dirs))
