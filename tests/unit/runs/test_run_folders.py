"""Folders and configs that the user did not name."""

from __future__ import annotations

from pathlib import Path

import pytest
from counting import Config, Counting

from agent_economy.runs.folders import run_folder, starting_toml
from agent_economy.runs.runner import Interrupted, execute


def test_runs_are_numbered_on(tmp_path: Path) -> None:
    assert run_folder("counting", False, tmp_path).name == "counting-1"
    for name in ("counting-1", "counting-9", "counting-x", "counting-old-12", "other-20"):
        (tmp_path / name).mkdir()
    assert run_folder("counting", False, tmp_path).name == "counting-10"


def test_resume_takes_the_newest_unfinished_run(tmp_path: Path) -> None:
    def interrupt(index: int) -> None:
        raise KeyboardInterrupt

    for name in ("counting-1", "counting-2"):
        with pytest.raises(Interrupted):
            execute(Counting(interrupt), Config(), tmp_path / name, resume=False)
    execute(Counting(), Config(), tmp_path / "counting-3", resume=False)
    assert run_folder("counting", True, tmp_path).name == "counting-2"
    assert run_folder("counting", False, tmp_path).name == "counting-4"


def test_a_resumed_run_keeps_its_own_config(tmp_path: Path) -> None:
    scenario = Counting()
    assert starting_toml(scenario, tmp_path, resume=True) == scenario.default_toml()
    (tmp_path / "config.toml").touch()
    assert starting_toml(scenario, tmp_path, resume=True) == tmp_path / "config.toml"
    assert starting_toml(scenario, tmp_path, resume=False) == scenario.default_toml()
