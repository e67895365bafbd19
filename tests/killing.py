"""Runs that are killed in the middle and taken up again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# What is slow to import is imported once; children are forked from a server that did no more.
_CONTEXT.set_forkserver_preload(["agent_economy.economy", "agent_economy.zoo", "pandas"])


def command(scenario: str, folder: Path, *more: str) -> list[str]:
    """What a user types after ``agent-economy``."""
    return ["run", scenario, "-o", str(folder), *more]


def settings(**values: str) -> list[str]:
    """``-s key=value`` for each of them."""
    return [word for key, value in values.items() for word in ("-s", f"{key}={value}")]


def run(words: Sequence[str], log: Path) -> None:
    """Run the command line to the end; what went wrong is said."""
    process = _start(words, log)
    process.join()
    assert process.exitcode == 0, log.read_text()


def kill_after_a_cell(words: Sequence[str], folder: Path, log: Path, seconds: float = 900.0) -> int:
    """Start a run and kill it, by SIGKILL, once a cell is stored; returns how many were by then."""
    process = _start(words, log)
    done, until = folder / "parts" / "done", time.monotonic() + seconds
    try:
        while not (done.is_dir() and any(done.glob("[0-9]*"))):
            assert process.exitcode is None, f"ended before a kill: {log.read_text()}"
            assert time.monotonic() < until, "no cell was stored in time"
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    return len(list(done.glob("[0-9]*")))


def _start(words: Sequence[str], log: Path) -> ForkServerProcess:
    process = _CONTEXT.Process(target=_main, args=(list(words), str(log)))
    process.start()
    return process


def _main(words: list[str], log: str) -> None:
    """A child's whole life: the command line, what it says in a file."""
    from agent_economy.cli import main

    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    main(words)


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of every table but the clock readings."""
    return {p.name: p.read_bytes() for p in folder.glob("*.parquet") if p.stem != "timings"}


def messages(folder: Path) -> list[dict[str, object]]:
    """The lines of a run's log; one that a kill tore is left out."""
    lines = []
    for line in (folder / "log.jsonl").read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
