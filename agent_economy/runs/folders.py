"""Which folder and which config a run takes when the user names none."""

from __future__ import annotations

import json
import re
from pathlib import Path

from agent_economy.runs.reader import COMPLETE, CONFIG, MANIFEST
from agent_economy.runs.scenario import Scenario

RUNS = Path("runs")


def run_folder(scenario: str, resume: bool, root: Path = RUNS) -> Path:
    """The folder ``runs/<scenario>-<n>`` for a run whose folder the user did not name.

    Args:
        scenario: the scenario's name.
        resume: take the newest unfinished run if there is one.
        root: where run folders lie.

    Returns:
        That folder, or the one after the highest number in use; it is not made.
    """
    number = {
        int(match[1]): path
        for path in root.glob(f"{scenario}-*")
        if (match := re.fullmatch(rf"{re.escape(scenario)}-(\d+)", path.name))
    }
    if resume:
        for path in (number[n] for n in sorted(number, reverse=True)):
            if (path / CONFIG).is_file() and _status(path) != COMPLETE:
                return path
    return root / f"{scenario}-{max(number, default=0) + 1}"


def starting_toml(scenario: Scenario, folder: Path, resume: bool) -> Path:
    """The config to start from when the user names none.

    A resumed run goes on with the config in its folder, even where the scenario's own has changed
    since; a new one takes the scenario's own.
    """
    if resume and (folder / CONFIG).is_file():
        return folder / CONFIG
    return scenario.default_toml()


def _status(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / MANIFEST).read_text("utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
