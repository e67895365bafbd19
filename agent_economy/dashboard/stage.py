"""What a page shows: a finished run, a live economy, or both."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent_economy.dashboard.setting import Setting, setting_tree
from agent_economy.errors import EconomyError, unknown
from agent_economy.runs.config import load_toml
from agent_economy.runs.reader import Run
from agent_economy.runs.scenario import find_scenario, scenario_names

if TYPE_CHECKING:
    from agent_economy.dashboard.recording import Recording
    from agent_economy.dashboard.workshop import Workshop

#: carries what `stage` is asked for to the app, which the server imports by name
ORDER = "AGENT_ECONOMY_DASHBOARD"


class Stage:
    """What one server shows to all its visitors.

    Args:
        title: what it is called.
        setting: of the live economy; None where there is none.
        why_not: why there is none, where there is none.
        recording: the run's steps; None where there are none.
    """

    def __init__(
        self,
        title: str,
        setting: Setting | None,
        why_not: str = "",
        recording: Recording | None = None,
    ) -> None:
        self.title, self.setting, self.why_not = title, setting, why_not
        self.recording = recording
        self._lock = Lock()
        self._workshop: Workshop | None = None

    def workshop(self) -> Workshop:
        """The model and its texts, loaded when the first visitor asks.

        Raises:
            EconomyError: there is no live economy, or it cannot be built.
        """
        if self.setting is None:
            raise EconomyError(self.why_not)
        with self._lock:
            if self._workshop is None:
                from agent_economy.dashboard.workshop import Workshop

                self._workshop = Workshop(self.setting)
            return self._workshop


def stage_for(target: str | None, config: Path | None, overrides: list[str]) -> Stage:
    """The stage of a run folder, of a scenario, or of defaults.

    Args:
        target: a run folder or the name of a scenario; None for MiniLM with defaults.
        config: another TOML of the scenario; without a target, one of a `Setting`.
        overrides: ``key=value`` of a `Setting`.

    Raises:
        EconomyError: there is neither such a run nor such a scenario, or it has nothing to show.
    """
    if target is None:
        return Stage("live economy", load_toml(Setting, config, overrides))
    if target in scenario_names() and not Path(target).is_dir():
        study = find_scenario(target)
        tree = load_toml(study.config_type(), config or study.default_toml(), [])
        setting = _setting(setting_tree(tree.model_dump(mode="json")), overrides)
        return Stage(study.name, setting)
    if config is not None:
        raise EconomyError(f"{target} brings its own config; leave -c out")
    if not Path(target).is_dir():
        if os.sep in target or target.startswith("."):
            raise EconomyError(f"{target} is no folder; give a run folder or a scenario's name")
        raise unknown("run folder or scenario", target, scenario_names())
    return _of_run(Run(target), overrides)


def _of_run(run: Run, overrides: list[str]) -> Stage:
    from agent_economy.dashboard.recording import Recording

    setting, recording, why = None, None, []
    try:
        recording = Recording(run)
    except EconomyError as error:
        why.append(str(error))
    try:
        setting = _setting(setting_tree(run.config), overrides)
    except EconomyError as error:
        why.append(str(error))
    if setting is None and recording is None:
        raise EconomyError("; ".join(why))
    return Stage(run.path.resolve().name, setting, why[-1] if why else "", recording)


def _setting(tree: dict[str, Any], overrides: list[str]) -> Setting:
    """A setting from a tree, with some values set by hand."""
    by_hand = load_toml(Setting, None, overrides).model_dump(exclude_unset=True)
    try:
        return Setting.model_validate(_merged(tree, by_hand))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise EconomyError(
            f"the config gives no live economy: {key}: {first['msg']}; set it with -s {key}=VALUE"
        ) from error


def _merged(tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {key: (tree.get(key), value) for key, value in other.items()}
    return tree | {
        key: _merged(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
        for key, (old, new) in both.items()
    }


def order(target: str | None, config: Path | None, overrides: list[str]) -> str:
    """What `ordered_stage` is to show, as text."""
    return json.dumps([target, str(config) if config else None, overrides])


@cache
def ordered_stage(text: str) -> Stage:
    """The stage of an `order`, made once."""
    target, config, overrides = json.loads(text)
    return stage_for(target, Path(config) if config else None, overrides)
