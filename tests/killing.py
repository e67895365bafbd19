"""Runs that are killed in the middle and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def command(scenario: str, folder: Path, *more: str) -> list[str]:
    """What a user types."""
    return [sys.executable, "-m", "agent_economy", "run", scenario, "-o", str(folder), *more]


def settings(**values: str) -> list[str]:
    """``-s key=value`` for each of them."""
    return [word for key, value in values.items() for word in ("-s", f"{key}={value}")]


def run(words: Sequence[str]) -> None:
    """Run to the end; what went wrong is said."""
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kill_after_a_cell(words: Sequence[str], folder: Path, seconds: float = 600.0) -> int:
    """Start a run and kill it, by SIGKILL, once a cell is stored; returns how many were by then."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    done, until = folder / "parts" / "done", time.monotonic() + seconds
    try:
        while not (done.is_dir() and any(done.glob("[0-9]*"))):
            code = process.poll()
            assert code is None, f"ended with {code} before a kill: {process.communicate()[1]}"
            assert time.monotonic() < until, "no cell was stored in time"
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    return len(list(done.glob("[0-9]*")))


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
