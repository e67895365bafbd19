"""Walk a scenario's cells into a run folder: progress, log, resume."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agent_economy.errors import EconomyError
from agent_economy.runs.config import StrictModel
from agent_economy.runs.files import locked, one_line_if_disk_full
from agent_economy.runs.scenario import Cell, Scenario
from agent_economy.runs.store import Store


class Interrupted(EconomyError):
    """The user pressed Ctrl-C; what is done is kept."""

    exit_code = 130


def execute(scenario: Scenario, config: StrictModel, out_dir: Path, resume: bool) -> Path:
    """Run a scenario, or what is left of it, and leave a complete run folder.

    Nothing is written before the scenario has opened, so that a config naming a model or a text
    that is not there leaves no folder behind.

    Args:
        scenario: what to run.
        config: an instance of the scenario's config type.
        out_dir: the run folder; made if needed.
        resume: take up an unfinished run of the same config that the folder may hold.

    Returns:
        ``out_dir``.

    Raises:
        EconomyError: bad input or a full disk, in one line.
        Interrupted: Ctrl-C, with the way to resume.
    """
    console = Console(stderr=True)
    cells = scenario.cells(config)
    if not cells:
        raise EconomyError("the config describes no points to run; nothing to do")
    store = Store(out_dir, scenario.name, config, cells)
    store.check(resume)
    if store.complete:
        store.tidy()
        console.print(
            f"{out_dir} is already complete", markup=False, highlight=False, soft_wrap=True
        )
        return out_dir
    try:
        with one_line_if_disk_full(out_dir):
            _run(scenario, config, store, console)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; repeat the command with -o {out_dir} --resume to go on"
        ) from None
    return out_dir


def _run(scenario: Scenario, config: StrictModel, store: Store, console: Console) -> None:
    begun = False
    waiting: list[tuple[str, dict[str, Any]]] = []

    def log(message: str, **fields: Any) -> None:
        if fields.get("level") == "warning":
            console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if begun:
            store.log(message, **fields)
        else:  # no folder yet
            waiting.append((message, fields))

    with ExitStack() as stack:
        with console.status(f"opening {scenario.name}"):
            session = scenario.open(config, log)
        if hasattr(session, "close"):
            stack.callback(session.close)
        hashes = session.data_hashes() if hasattr(session, "data_hashes") else {}
        stack.enter_context(locked(store.make_folder()))
        warnings = store.begin(hashes)
        begun = True
        try:
            for message, fields in waiting:
                store.log(message, **fields)
            for warning in warnings:
                log(warning, level="warning")
            _run_cells(scenario, session, store, console)
            store.finish(scenario.finish(session))
            store.log("complete")
        except Exception:
            store.discard_if_empty()
            raise


def _run_cells(scenario: Scenario, session: Any, store: Store, console: Console) -> None:
    done = store.done()
    left = [index for index in range(len(store.cells)) if index not in done]
    if done:
        store.log("resume", done=len(done), left=len(left))
    with _progress(console) as progress:
        # The bar's estimate is made of this session's cells only: the done ones took no time now.
        task = progress.add_task(scenario.name, total=len(left), cell="")
        for index in left:
            cell = store.cells[index]
            progress.update(task, cell=_label(cell))
            start = time.perf_counter()
            store.write_cell(index, scenario.run_cell(session, cell))
            seconds = round(time.perf_counter() - start, 3)
            store.log("cell", index=index, seconds=seconds, **cell)
            progress.advance(task)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cell]}", style="dim"),
        console=console,
    )


def _label(cell: Cell) -> str:
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in cell.values())
