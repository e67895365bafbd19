"""Child processes that die with their parent and say why they failed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent_economy.errors import EconomyError
from agent_economy.runs.manifest import machine, now

THREADS = "OMP_NUM_THREADS"
GRACE_S = 15.0
"""How long an interrupted child may take to write its checkpoint."""
_TAIL_BYTES = 8192
_PR_SET_PDEATHSIG = 1


class Child:
    """One command, running; what it prints goes to the end of a file.

    It leads a process group of its own: Ctrl-C reaches the parent alone, which then decides, and
    a signal to the group reaches what the child has started itself.

    Args:
        name: for messages.
        argv: the command.
        log: the file.
        environment: what is set beside the parent's environment.

    Raises:
        EconomyError: the command cannot be started.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name, self.log = name, log
        self._start, self._end = time.perf_counter(), 0.0
        with open(log, "ab") as file:
            file.write(f"--- {now()} {' '.join(argv)}\n".encode())
            file.flush()
            self._from = file.tell()
            try:
                self._process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
            except OSError as error:
                raise EconomyError(f"cannot start {argv[0]!r}: {error.strerror}") from error

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        if self._process.poll() is None:
            return False
        self._end = self._end or time.perf_counter()
        return True

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self._end or time.perf_counter()) - self._start

    def why(self) -> str:
        """The last line that it said, or the signal that ended it."""
        code = self.code
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        with open(self.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._from, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if code == 0:
            return "it ended without completing its cell"
        return said or f"exit code {code}, without a word"

    def send(self, number: int) -> None:
        """Send a signal to the child and to all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0))
        return self.ended


def stop(children: Sequence[Child], grace_s: float = GRACE_S) -> None:
    """End all children: ask, wait, then kill; a second Ctrl-C kills at once."""
    running = [child for child in children if not child.ended]
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            for child in running:
                child.send(number)
            until = time.monotonic() + grace_s
            running = [child for child in running if not child.wait(until - time.monotonic())]
    finally:
        for child in running:
            child.send(signal.SIGKILL)
            child.wait(grace_s)


def threads_for(workers: int) -> dict[str, str]:
    """How many threads each of so many children takes, unless the user has said so."""
    if THREADS in os.environ:
        return {}
    return {THREADS: str(max(1, (machine()["cores"] or 1) // workers))}


def _die_with(parent: int) -> Callable[[], None] | None:
    """A killed parent cannot stop its children, so the kernel is asked to (Linux alone can)."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)  # loaded before the fork: nothing may be afterwards

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died meanwhile
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
