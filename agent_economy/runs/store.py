"""The run folder: parts per cell while it runs, tidy tables when it is complete.

Layout while running::

    config.toml  manifest.json  log.jsonl
    parts/<table>/<cell>.parquet        rows of one cell
    parts/done/<cell>                   written last: this cell is whole

At the end the parts become ``<table>.parquet`` in cell order and go away. Every table takes that
road whether or not the run was interrupted, so both end with the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel, dump_toml, first_difference, read_toml
from agent_economy.runs.files import (
    TEMPORARY,
    atomic,
    make_folders,
    names_in,
    sync_folder,
    unmake_folders,
    write_atomic,
)
from agent_economy.runs.manifest import environment, now
from agent_economy.runs.reader import COMPLETE, CONFIG, MANIFEST
from agent_economy.runs.recording import pieces_of
from agent_economy.runs.tables import encode, flush, merged, plain, with_cell, write

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.recording import Rows
    from agent_economy.runs.scenario import Cell

RUNNING = "running"
LOG = "log.jsonl"


class Store:
    """One run folder, open for writing.

    `check` looks and touches nothing; `make_folder` and `begin` open it; `write_cell` and `finish`
    fill it.
    """

    def __init__(
        self, folder: Path, scenario: str, config: StrictModel, cells: Sequence[Cell]
    ) -> None:
        """Name the folder; nothing is read or written yet.

        Args:
            folder: where the run goes.
            scenario: the scenario's name.
            config: the run's whole config.
            cells: the points of the study, in order.
        """
        self.folder, self.scenario, self.config, self.cells = folder, scenario, config, cells
        self.parts = folder / "parts"
        self._manifest: dict[str, Any] = {}
        self._made: list[Path] = []

    @property
    def command(self) -> str:
        """What runs it again, from the folder itself."""
        return f"agent-economy run {self.scenario} -c {CONFIG}"

    @property
    def complete(self) -> bool:
        """Whether the folder holds the finished run."""
        return bool(self._manifest.get("status") == COMPLETE)

    def check(self, resume: bool) -> None:
        """Apply the rules for opening a folder, before anything heavy is loaded.

        Raises:
            EconomyError: the folder is not ours to write, or --resume is needed, or the config
                differs from the one the run began with (the key is named).
        """
        folder = self.folder
        names = names_in(folder)
        if not names:
            return
        if CONFIG not in names or not (MANIFEST in names or names <= {CONFIG, LOG}):
            raise EconomyError(f"{folder} holds other files; choose another -o")
        if MANIFEST in names:
            self._manifest = _read_manifest(folder)
        self._compare(resume)
        if not resume:
            state = "a finished" if self.complete else "an unfinished"
            wish = "keep" if self.complete else "complete"
            raise EconomyError(
                f"{folder} holds {state} run; choose another -o, or --resume to {wish} it"
            )

    def _compare(self, resume: bool) -> None:
        theirs = self._manifest.get("scenario", self.scenario)
        mine = self.config.model_dump(mode="json", exclude_none=True)
        before = read_toml(self.folder / CONFIG)
        differs = first_difference(self._comparable(before), self._comparable(mine))
        if theirs == self.scenario and differs is None:
            return
        if not resume:
            raise EconomyError(f"{self.folder} holds another run; choose another -o")
        if theirs != self.scenario or differs is None:
            what = f"a run of scenario {theirs!r}, not {self.scenario!r}"
        else:
            key, old, new = differs
            what = f"a run with {key} = {_show(old)}, not {_show(new)}"
        raise EconomyError(
            f"cannot resume: {self.folder} holds {what}; use its {CONFIG} or choose another -o"
        )

    def _comparable(self, tree: dict[str, Any]) -> dict[str, Any]:
        """What of a config must not change until the run is complete."""
        return tree

    def make_folder(self) -> Path:
        """Make the folder where it is missing, for the lock to hold on to; returns it."""
        self._made = make_folders(self.folder)
        return self.folder

    def begin(self, data_hashes: Mapping[str, str]) -> list[str]:
        """Write what the run is made with, or take up the run that the folder holds.

        Args:
            data_hashes: digest of every text or data file the study reads.

        Returns:
            What a user should know before rows made now stand beside rows made earlier.

        Raises:
            EconomyError: the data or the scenario's cells are not those the run began with.
        """
        for leftover in self.folder.rglob(f".*{TEMPORARY}"):
            leftover.unlink()
        here = environment()
        warnings = self._check_same(here, dict(data_hashes)) if self._manifest else []
        if not self._manifest:
            self._write_config()
            self._manifest = {
                "scenario": self.scenario,
                "status": RUNNING,
                **here,
                "seeds": _seeds(self.config, self.cells),
                "data_hashes": dict(data_hashes),
                "cells": len(self.cells),
                "started": now(),
                "resumed": [],
                "ended": None,
            }
        else:
            self._manifest["resumed"].append(now())
        self._write_manifest()
        self._make_parts()
        return warnings

    def _check_same(self, here: dict[str, Any], data_hashes: dict[str, str]) -> list[str]:
        before = self._manifest
        changed = first_difference(before.get("data_hashes", {}), data_hashes)
        if changed:
            raise EconomyError(
                f"cannot resume: {changed[0]} has changed since the run began; choose another -o"
            )
        for index, marker in self._markers().items():
            if index >= len(self.cells) or marker["cell"] != self.cells[index]:
                raise EconomyError(
                    f"cannot resume: scenario {self.scenario!r} now has other cells than when "
                    f"the run began; choose another -o"
                )
        differs = first_difference(
            {"versions": before.get("versions"), "git_commit": before.get("git_commit")},
            {"versions": here["versions"], "git_commit": here["git_commit"]},
        )
        if not differs:
            return []
        key, old, new = differs
        return [f"the run began with {key} {old} and goes on with {new}"]

    def _markers(self) -> dict[int, dict[str, Any]]:
        done = self.parts / "done"
        return {
            int(path.name): json.loads(path.read_text()) for path in sorted(done.glob("[0-9]*"))
        }

    def done(self) -> set[int]:
        """The indices of the cells whose rows are safely stored."""
        return set(self._markers())

    def write_cell(self, index: int, tables: Mapping[str, Rows]) -> None:
        """Store the rows of one cell: its tables first, the marker that they are whole last.

        Args:
            index: the cell's place in the list.
            tables: table name to rows, without the cell's columns. Rows that come in pieces are
                written piece by piece, table after table.

        Raises:
            ValueError: a table already has a column that names the cell, or its name is no word.
        """
        cell = self.cells[index]
        for name, rows in tables.items():
            if not name.isidentifier() or name == "done":
                raise ValueError(f"{name!r} cannot be a table's name")
            folder = self.parts / name
            folder.mkdir(exist_ok=True)
            with atomic(folder / f"{index:06d}.parquet") as file:
                flush(file, (with_cell(piece, cell, name) for piece in pieces_of(rows)))
        marker = json.dumps({"cell": cell, "tables": sorted(tables)})
        write_atomic(self.parts / "done" / f"{index:06d}", marker)

    def finish(self, extra: Mapping[str, pd.DataFrame]) -> None:
        """Merge the parts in cell order, add the tables of no cell, and close the run.

        Only then are the parts removed: killed anywhere in here, the run still resumes.

        Raises:
            ValueError: a table comes both from cells and from ``extra``.
        """
        markers = self._markers()
        names = sorted({name for marker in markers.values() for name in marker["tables"]})
        clash = set(names) & set(extra)
        if clash:
            raise ValueError(f"tables {sorted(clash)} come from both cells and finish()")
        for name in names:
            indices = [index for index, marker in markers.items() if name in marker["tables"]]
            files = [self.parts / name / f"{index:06d}.parquet" for index in indices]
            with atomic(self.folder / f"{name}.parquet") as file:
                write(file, merged(files))
        for name, frame in extra.items():
            write_atomic(self.folder / f"{name}.parquet", encode(plain(frame)))
        self._manifest |= {"status": COMPLETE, "ended": now()}
        self._write_manifest()
        self.tidy()

    def tidy(self) -> None:
        """Remove what a finished run no longer needs."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def discard_if_empty(self) -> None:
        """Take back a run that failed before its first cell: bad input leaves nothing behind."""
        if not self._manifest or self._manifest["resumed"] or self.done():
            return
        self.tidy()
        for name in (CONFIG, MANIFEST, LOG):
            (self.folder / name).unlink(missing_ok=True)
        unmake_folders(self._made)
        self._manifest = {}

    def log(self, message: str, **fields: Any) -> None:
        """Append one JSON line to ``log.jsonl``."""
        path = self.folder / LOG
        line = json.dumps({"time": now(), "message": message, **fields}, default=str)
        # A kill may have torn the last line: start on a fresh one.
        torn = path.exists() and path.stat().st_size and not _ends_in_newline(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n" if torn else f"{line}\n")

    def _write_config(self) -> None:
        toml = f"# {self.command}\n{dump_toml(self.config)}"
        write_atomic(self.folder / CONFIG, toml)

    def _make_parts(self) -> None:
        (self.parts / "done").mkdir(parents=True, exist_ok=True)

    def _write_manifest(self) -> None:
        text = json.dumps(self._manifest, indent=2, default=str) + "\n"
        write_atomic(self.folder / MANIFEST, text)
        sync_folder(self.folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if "status" in manifest and "resumed" in manifest:
            return dict(manifest)
    except (ValueError, TypeError):
        pass
    raise EconomyError(f"{folder / MANIFEST} is no run manifest; choose another -o")


def _seeds(config: StrictModel, cells: Sequence[Cell]) -> dict[str, Any]:
    tree = config.model_dump(mode="json", exclude_none=True)
    from_config = {key: tree[key] for key in ("seed", "seeds") if key in tree}
    in_cells = list(dict.fromkeys(cell["seed"] for cell in cells if "seed" in cell))
    return from_config | ({"cells": in_cells} if in_cells else {})


def _show(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, default=str)


def _ends_in_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
