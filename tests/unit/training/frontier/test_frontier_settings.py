"""What a frontier may be made of, and what is refused before there is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_economy.errors import EconomyError
from agent_economy.training.frontier.cells import RIVALS
from agent_economy.training.frontier.settings import MENU, RESERVED
from agent_economy.training.frontier.sweep import train_frontier
from agent_economy.training.methods import METHODS


def test_every_rival_of_the_tables_is_on_the_menu() -> None:
    assert set(MENU) == set(RIVALS)
    for named in MENU.values():
        assert named.name in METHODS.members()


def late(budget: str) -> tuple[str, str]:
    return "budgets=[0.25]", f'epochs={{"{budget}" = 16}}'


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    def refused(match: str, *wishes: str) -> None:
        with pytest.raises(EconomyError, match=match):
            train_frontier(None, ["task=stsb", *wishes], tmp_path / "s", 1)
        assert not (tmp_path / "s").exists()

    refused("unknown rival 'fisher_retran'.*'fisher_retrain'", 'rivals=["fisher_retran"]')
    refused(r'epochs: "0.250" = 16; give .* of the budgets "0.25"', *late("0.250"))
    refused(r'epochs: "1" = 16', *late("1"))
    refused("budgets: 1.5 is not between 0 and 1", "budgets=[1.5]")
    refused("unknown task 'foo'", "task=foo")
    refused("seeds: 1 stands there twice", "seeds=[1, 0, 1]")
    refused("seeds: -1 is below 0", "seeds=[-1]")
    refused("budgets: 0.25 stands there twice", "budgets=[0.25, 0.4, 0.250]")
    refused("rivals: l0 stands there twice", 'rivals=["l0", "l0"]')
    refused("unknown method 'markt'.*'market'", "economy.name=markt")
    refused(
        "unknown option of method market 'aneal'.*'anneal'",
        "economy.name=market",
        "economy.options={aneal = 0.3}",
    )
    refused(
        "market: noise = -1; give a number", "economy.name=market", "economy.options={noise = -1}"
    )
    refused("market: budgets = .* smaller one first", "many={budgets = [0.6, 0.2]}")
    refused("train.learning_rate: .* greater than 0", "train={learning_rate = -1}")
    refused("train.epochs: .* valid integer", 'train={epochs = "x"}')
    refused("unknown key 'train.epoch'.*'train.epochs'", "train={epoch = 3}")
    refused("train.latency.budget_ms: every cell", "train={latency = {budget_ms = 4}}")


@pytest.mark.parametrize("key", RESERVED)
def test_what_a_frontier_sets_itself_is_no_setting_of_its_trainings(
    tmp_path: Path, key: str
) -> None:
    value = "0.1" if key in ("budget", "hold_out", "test_share") else "1"
    with pytest.raises(EconomyError, match=f"train.{key}: a frontier sets this itself; use "):
        train_frontier(None, ["task=stsb", f"train={{{key} = {value}}}"], tmp_path / "s", 1)
    assert not (tmp_path / "s").exists()
