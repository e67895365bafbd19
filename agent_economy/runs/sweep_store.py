"""The folder of a sweep: a run folder whose cells are folders themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_economy.runs.config import StrictModel
from agent_economy.runs.manifest import now
from agent_economy.runs.reader import CELLS, COMPLETE, JOBS, RESUME
from agent_economy.runs.store import RUNNING, Store

INCOMPLETE = "incomplete"
"""Every cell was tried, and some failed."""


class SweepStore(Store):
    """One sweep's folder, open for writing; the rules for opening it are those of any run.

    Args:
        folder: where the sweep goes.
        scenario: what the report calls it.
        config: everything the cells depend on.
        names: of the cells, in order.
        command: what the user types to go on.
        may_change: top-level keys of the config that a resumed sweep may change.
    """

    def __init__(
        self,
        folder: Path,
        scenario: str,
        config: StrictModel,
        names: Sequence[str],
        command: str,
        may_change: Sequence[str] = (),
    ) -> None:
        bad = [name for name in names if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name)]
        if bad:
            raise ValueError(f"{bad[0]!r} cannot be a folder's name")
        super().__init__(folder, scenario, config, [{"cell": name} for name in names])
        self._names, self._command = list(names), command
        self._free = frozenset(may_change)

    @property
    def command(self) -> str:
        """See `Store`."""
        return self._command

    def begin(self, data_hashes: Mapping[str, str]) -> list[str]:
        """See `Store`; a sweep that is taken up again may have other cells."""
        warnings = super().begin(data_hashes)
        self._write_config()
        self._manifest |= {
            "status": RUNNING,
            "cells": len(self._names),
            JOBS: self._names,
            RESUME: self._command,
        }
        self._write_manifest()
        for name in (CELLS, "logs"):
            (self.folder / name).mkdir(exist_ok=True)
        return warnings

    def log_file(self, name: str) -> Path:
        """Where a cell's child writes what it says."""
        return self.folder / "logs" / f"{name}.log"

    def close(self, *, complete: bool) -> None:
        """Record how the sweep ended."""
        self._manifest |= {"status": COMPLETE if complete else INCOMPLETE, "ended": now()}
        self._write_manifest()
        self.log(self._manifest["status"])

    def _comparable(self, tree: dict[str, Any]) -> dict[str, Any]:
        """See `Store`."""
        return {key: value for key, value in tree.items() if key not in self._free}

    def _make_parts(self) -> None:
        """Cells keep their own folders."""
