"""What a study must say about itself so that the runner can run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agent_economy.errors import EconomyError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel
    from agent_economy.runs.recording import Rows

GROUP = "agent_economy.scenarios"

Cell = dict[str, str | int | float]
Log = Callable[..., None]
"""``log("what happened", key=value, ...)``: one line in ``log.jsonl``.

With ``level="warning"`` the user sees it at once, too.
"""


class Scenario(ABC):
    """A study as a list of cells, each measured on its own.

    A subclass lives in a module that imports neither torch nor pandas at its top: the command line
    lists names and summaries without paying for them. Heavy imports belong inside the methods.

    Attributes:
        name: what the user types.
        summary: one line for ``agent-economy scenarios``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def config_type(self) -> type[StrictModel]:
        """The class of this scenario's config, imported here and not before."""

    @abstractmethod
    def default_toml(self) -> Path:
        """The TOML file that runs when the user names none: the claim as committed."""

    @abstractmethod
    def cells(self, config: Any) -> list[Cell]:
        """The points of the study, in a fixed order.

        Returns:
            One dict per point, for example mechanism, policy, scope, budget_fraction and seed.
            All have the same keys; no two are equal.
        """

    @abstractmethod
    def open(self, config: Any, log: Log) -> Any:
        """The heavy part, done once: load the model, read the texts.

        Args:
            config: an instance of `config_type`.
            log: writes a line to the run's log.

        Returns:
            A session for `run_cell`. If it has ``close()``, the runner calls it at the end; if it
            has ``data_hashes()``, a dict of name to digest, the manifest keeps them.
        """

    @abstractmethod
    def run_cell(self, session: Any, cell: Cell) -> Mapping[str, Rows]:
        """Measure one point.

        Every random choice must follow from the config and the cell alone, never from cells that
        ran before: a resumed run skips those.

        Returns:
            Table name to tidy rows, *without* the cell's own columns: the runner puts these first.
            Clock readings go to ``timings`` only. A long measurement returns an iterator of frames
            (see `runs.recording`): it runs while its rows are written.
        """

    def finish(self, session: Any) -> dict[str, pd.DataFrame]:
        """Tables that belong to no cell, written at the end; none unless overridden.

        A table named here must not be one that `run_cell` returns.
        """
        return {}


def scenario_names() -> list[str]:
    """The names of every installed scenario, sorted; imports none of them."""
    return sorted(point.name for point in entry_points(group=GROUP))


def find_scenario(name: str) -> Scenario:
    """The scenario called ``name``.

    Raises:
        EconomyError: no installed package has it (the nearest name is offered), or the package
            that has it does not import.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise unknown("scenario", name, points)
    try:
        found = points[name].load()
    except (ImportError, AttributeError) as error:
        raise EconomyError(
            f"scenario {name!r} ({points[name].value}) does not load: {error}"
        ) from error
    if isinstance(found, type) and issubclass(found, Scenario):
        found = found()
    if not isinstance(found, Scenario):
        raise EconomyError(f"scenario {name!r} ({points[name].value}) is not a Scenario")
    return found


def all_scenarios() -> list[Scenario]:
    """Every installed scenario that loads, by name."""
    return [find_scenario(name) for name in scenario_names()]
