"""What a run was made with: versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("agent-economy", "torch", "transformers", "tokenizers", "safetensors", "mesa"),
    *("numpy", "scipy", "pandas", "pyarrow", "pydantic"),
)


def now() -> str:
    """The time in UTC to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions, git commit and machine, for the manifest; imports nothing heavy."""
    return {"versions": versions(), "git_commit": git_commit(), "machine": machine()}


def versions() -> dict[str, str]:
    """Python's version and that of every package whose numbers end up in the tables."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit that this package's source is at, ``-dirty`` added where files differ from it.

    None for an installed copy: a virtual environment that happens to lie in somebody's repository
    must not report that repository's commit.
    """
    source = Path(__file__)

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(source.parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if not git("ls-files", "--error-unmatch", source.name):
        return None
    commit = git("rev-parse", "HEAD")
    dirty = git("status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit}-dirty" if commit and dirty else commit


def machine() -> dict[str, Any]:
    """CPU model, cores usable by this process, RAM in GiB, torch threads and accelerator if any.

    Torch is asked only where the study has loaded it already.
    """
    about: dict[str, Any] = {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "ram_gib": _ram_gib(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        about["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            about["accelerator"] = torch.cuda.get_device_name()
    return about


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _ram_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
