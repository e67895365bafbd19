"""What can be run: models and studies."""

from __future__ import annotations

from agent_economy.cli.tables import columns
from agent_economy.errors import EconomyError


def models() -> None:
    """List the models with an alias.

    Each with its shape and "here", or the command that fetches its weights.

    Example: agent-economy models
    """
    from agent_economy.zoo import catalogue

    columns([(e.name, e.shape, "here" if e.here else e.pip) for e in catalogue()])


def scenarios() -> None:
    """List the studies that `run` knows.

    Example: agent-economy scenarios
    """
    from agent_economy.runs.scenario import find_scenario, scenario_names

    rows = []
    for name in scenario_names():
        try:
            rows.append((name, find_scenario(name).summary))
        except EconomyError as error:  # one broken package must not hide the others
            rows.append((name, f"({error})"))
    columns(rows)
