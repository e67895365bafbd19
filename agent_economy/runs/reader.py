"""A finished run folder, read back: the only door that analysis uses."""

from __future__ import annotations

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from agent_economy.errors import EconomyError, unknown

CONFIG = "config.toml"
MANIFEST = "manifest.json"
COMPLETE = "complete"
CELLS, JOBS, RESUME = "cells", "jobs", "resume_command"
"""A sweep's folder of cells; in its manifest: their names, and the command that goes on with it."""


class Run:
    """One run folder: its config, its manifest and its tidy tables.

    Example:
        >>> run = Run("runs/demo")  # doctest: +SKIP
        >>> run.table("metrics").groupby("metric")["value"].mean()  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        """Open a run folder.

        Args:
            path: the folder that ``agent-economy run`` wrote.

        Raises:
            EconomyError: the folder holds no run, or one that was interrupted.
        """
        self.path = Path(path)
        self._tables: dict[str, pd.DataFrame] = {}
        if not (self.path / CONFIG).is_file() or not (self.path / MANIFEST).is_file():
            raise EconomyError(f"{self.path} holds no run; make one with `agent-economy run`")
        if self.manifest.get("status") != COMPLETE and not self._collected:
            again = f"agent-economy run {self.scenario} -o {self.path} --resume"
            raise EconomyError(
                f"the run in {self.path} is unfinished; complete it with "
                f"`{self.manifest.get(RESUME, again)}`"
            )

    @property
    def _collected(self) -> bool:
        """Whether it is a sweep whose cells have been put together, perhaps not all of them."""
        return JOBS in self.manifest and CELLS in self.tables

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.toml``: everything needed to run it again.

        Raises:
            EconomyError: the file is damaged.
        """
        try:
            return tomllib.loads((self.path / CONFIG).read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise EconomyError(f"{self.path / CONFIG} is damaged ({error})") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``manifest.json``: versions, commit, seeds, machine, data hashes, start and end.

        Raises:
            EconomyError: the file is damaged.
        """
        try:
            manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text("utf-8"))
        except ValueError as error:
            raise EconomyError(f"{self.path / MANIFEST} is damaged ({error})") from error
        return manifest

    @property
    def scenario(self) -> str:
        """The name of the scenario that made this run."""
        return str(self.manifest.get("scenario", "SCENARIO"))

    @property
    def figures(self) -> Path:
        """The folder that figures and the data behind them go to; made when first asked for."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        return folder

    @cached_property
    def tables(self) -> list[str]:
        """The names of the tables that the run holds, sorted."""
        return sorted(file.stem for file in self.path.glob("*.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """One tidy table: the cell's columns first, then what the scenario measured.

        Read once and kept, so do not write into the frame that comes back.

        Args:
            name: for example ``"metrics"``, ``"prices"`` or ``"timings"``.

        Raises:
            EconomyError: the run holds no table of that name.
        """
        if name not in self._tables:
            if name not in self.tables:
                raise unknown("table", name, self.tables)
            self._tables[name] = pd.read_parquet(self.path / f"{name}.parquet")
        return self._tables[name]
