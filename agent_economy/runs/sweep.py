"""Many commands, some at a time: the cells of a sweep as child processes.

Layout::

    config.toml  manifest.json  log.jsonl       as in any run folder
    cells/<name>/                               one folder a cell, the child's own
    logs/<name>.log                             what the child said, every attempt

A cell is a command that can be repeated: it goes on where it was cut off. So nothing has to be
kept here but the list: what is done is asked of the cells' folders, and a child that dies takes
nothing but its own cell with it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from agent_economy.errors import EconomyError
from agent_economy.runs.children import Child, stop, threads_for
from agent_economy.runs.config import StrictModel
from agent_economy.runs.files import locked, one_line_if_disk_full
from agent_economy.runs.reader import CELLS
from agent_economy.runs.runner import Interrupted
from agent_economy.runs.sweep_store import SweepStore

POLL_S = 0.1
FAILED = "failed"
"""The message of a log line that says why a cell failed."""


class CellsFailed(EconomyError):
    """Some cells did not complete; the others are kept."""

    exit_code = 1


@dataclass(frozen=True)
class Job:
    """One cell.

    Attributes:
        name: of its folder.
        argv: the command; repeated, it goes on.
        after: the cells that must be done before it starts.
    """

    name: str
    argv: tuple[str, ...]
    after: tuple[str, ...] = ()


class Sweep:
    """A list of cells in one folder.

    Example:
        >>> job = Job("one", ("agent-economy", "train", "-o", "sweep/cells/one", "--resume"))
        >>> sweep = Sweep(  # doctest: +SKIP
        ...     Path("sweep"), [job], done=is_complete, config=config,
        ...     command="agent-economy train --frontier -o sweep --resume",
        ... )
        >>> sweep.run(workers=2, resume=True, finish=collect)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job],
        *,
        done: Callable[[Path], bool],
        config: StrictModel,
        command: str,
        scenario: str = "frontier",
        may_change: Sequence[str] = (),
    ) -> None:
        """Name the folder and the cells; nothing is read or written yet.

        Args:
            folder: where the sweep goes.
            jobs: the cells, in the order in which they start where nothing else binds them.
            done: whether the folder of a cell, which may be missing, holds a complete one.
            config: everything the cells depend on.
            command: what the user types to go on with it.
            scenario: what the report calls it.
            may_change: top-level keys of the config that a resumed sweep may change, such as the
                seeds: cells that are done stay, and new ones are added.

        Raises:
            ValueError: two cells share a name, or one waits for itself or for none that there is.
        """
        self.folder, self.jobs, self.command = folder, list(jobs), command
        self._done = done
        self._store = SweepStore(
            folder, scenario, config, [job.name for job in jobs], command, may_change
        )
        _check_order(self.jobs)

    def cell(self, name: str) -> Path:
        """The folder of a cell."""
        return self.folder / CELLS / name

    def run(
        self,
        *,
        workers: int = 1,
        resume: bool = False,
        finish: Callable[[Path], object] = lambda folder: None,
        data_hashes: Mapping[str, str] | None = None,
    ) -> Path:
        """Run what is not done yet, ``workers`` cells at a time.

        Args:
            workers: children side by side.
            resume: take up the sweep that the folder may hold.
            finish: makes the sweep's tables of what is done; called once at the end if any cell
                is, failed ones or not, while the folder is locked.
            data_hashes: digests that must not change until the sweep is complete.

        Returns:
            The folder.

        Raises:
            EconomyError: bad input or a full disk, in one line.
            CellsFailed: some cells failed, and which.
            Interrupted: Ctrl-C or a termination; every child has stopped.
        """
        if workers < 1:
            raise EconomyError(f"--jobs {workers}: at least one cell runs at a time")
        console = Console(stderr=True)
        self._store.check(resume)
        names = [job.name for job in self.jobs]
        if self._store.complete and all(self._done(self.cell(name)) for name in names):
            _say(console, f"{self.folder} is already complete")
            return self.folder
        try:
            with (
                one_line_if_disk_full(self.folder),
                locked(self._store.make_folder()),
                _termination_interrupts(),
            ):
                for warning in self._store.begin(data_hashes or {}):
                    _say(console, warning)
                    self._store.log(warning, level="warning")
                failed = self._run(workers, console)
                if any(self._done(self.cell(name)) for name in names):
                    finish(self.folder)
                self._store.close(complete=not failed)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; repeat the command with -o {self.folder} --resume to go on"
            ) from None
        if failed:
            raise CellsFailed(_told(failed, len(names), self.folder))
        return self.folder

    def _run(self, workers: int, console: Console) -> dict[str, str]:
        """Every cell that is not done and what became of it."""
        done = {job.name for job in self.jobs if self._done(self.cell(job.name))}
        waiting = [job for job in self.jobs if job.name not in done]
        self._store.log("begin", done=len(done), left=len(waiting), workers=workers)
        failed: dict[str, str] = {}
        children: list[Child] = []
        environment = threads_for(workers)
        with _progress(console) as progress:
            bar = progress.add_task(self._store.scenario, total=len(waiting), cells="")
            try:
                while waiting or children:
                    for job in _ready(waiting, done, workers - len(children)):
                        waiting.remove(job)
                        log = self._store.log_file(job.name)
                        children.append(Child(job.name, job.argv, log, environment))
                        self._store.log("start", cell=job.name)
                    for child in [child for child in children if child.ended]:
                        children.remove(child)
                        if self._settled(child, failed, console):
                            done.add(child.name)
                            progress.advance(bar)
                    if not children and not _ready(waiting, done, 1):
                        break  # all that is left waits for a cell that failed
                    progress.update(bar, cells=", ".join(child.name for child in children))
                    progress.refresh()
                    time.sleep(POLL_S)
            finally:
                stop(children)
        return failed | {job.name: _waits_for(job, done) for job in waiting}

    def _settled(self, child: Child, failed: dict[str, str], console: Console) -> bool:
        """Record how a child ended; whether its cell is done."""
        told = {"cell": child.name, "seconds": round(child.seconds, 3)}
        if child.code == 0 and self._done(self.cell(child.name)):
            self._store.log("cell", **told)
            if not console.is_terminal:  # a bar draws nothing in a log file
                _say(console, f"{child.name} done in {child.seconds:.0f} s")
            return True
        why = failed[child.name] = child.why()
        self._store.log(FAILED, **told, code=child.code, why=why, level="warning")
        _say(console, f"{child.name} failed: {why}; see {child.log}")
        return False


def _check_order(jobs: Sequence[Job]) -> None:
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ValueError(f"cells share a name: {sorted({n for n in names if names.count(n) > 1})}")
    after, settled = {job.name: set(job.after) for job in jobs}, set[str]()
    while len(settled) < len(jobs):
        free = {name for name in after if name not in settled and after[name] <= settled}
        if not free:
            stuck = next(name for name in names if name not in settled)
            raise ValueError(f"{stuck!r} waits for {sorted(after[stuck] - settled)} for ever")
        settled |= free


def _ready(waiting: Sequence[Job], done: set[str], count: int) -> list[Job]:
    return [job for job in waiting if done.issuperset(job.after)][: max(count, 0)]


def _waits_for(job: Job, done: set[str]) -> str:
    return f"not started: {', '.join(name for name in job.after if name not in done)} is not done"


def _told(failed: Mapping[str, str], cells: int, folder: Path) -> str:
    """One line: which cells failed, why the first did, and what to do."""
    broken = [name for name, why in failed.items() if not why.startswith("not started")]
    shown = ", ".join(broken[:8]) + (f" and {len(broken) - 8} more" if len(broken) > 8 else "")
    held = len(failed) - len(broken)
    held_up = f", {held} more wait for them" if held else ""
    return (
        f"{len(broken)} of {cells} cells failed: {shown}{held_up} "
        f"({broken[0]}: {failed[broken[0]]}); mend the cause, then repeat the command with "
        f"-o {folder} --resume"
    )


def _say(console: Console, line: str) -> None:
    console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    # Refreshed by hand: no thread of ours must be running when a child is forked.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[cells]}", style="dim"),
        console=console,
        auto_refresh=False,
    )


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """A request to end (a batch system's, say) stops the children as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = None
    with suppress(ValueError):  # only the main thread may set handlers
        before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
