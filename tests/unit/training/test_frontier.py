"""A frontier: cells are made of settings, run as children, put together and judged."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from agent_economy.errors import EconomyError
from agent_economy.runs.config import load_toml
from agent_economy.training.frontier import (
    MENU,
    FrontierSettings,
    _jobs,
    train_frontier,
)
from agent_economy.training.frontier_cells import RIVALS
from agent_economy.training.methods import METHODS
from agent_economy.training.settings import TrainSettings

COMMITTED = sorted(Path(__file__).parents[3].glob("benchmarks/frontier/*.toml"))


def test_every_rival_of_the_tables_is_on_the_menu() -> None:
    assert set(MENU) == set(RIVALS)
    for named in MENU.values():
        assert named.name in METHODS.members()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_frontiers_are_made_of_sound_cells(path: Path) -> None:
    settings = load_toml(FrontierSettings, path, [])
    jobs = _jobs(settings, Path("sweep"))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    dense = [rival for rival in settings.rivals if rival in ("dense", "dense_on")]
    others = len(settings.rivals) + 1 - len(dense)
    per_seed = 1 + len(dense) + others * len(settings.budgets)
    if settings.many is not None:
        per_seed += 1 + len(settings.budgets)
    assert len(jobs) == per_seed * len(settings.seeds)
    for job in jobs:
        if "train" not in job.argv or job.name.startswith("many-"):
            continue
        words = [word for word, flag in zip(job.argv[1:], job.argv, strict=False) if flag == "-s"]
        made = load_toml(TrainSettings, None, words)  # what the cell's command line comes to
        assert made.model == f"sweep/cells/teacher-{made.seed}"
        assert job.after == (f"teacher-{made.seed}",)
        method, budget, seed = job.name.rsplit("-", 2)
        assert (made.budget, made.seed) == (float(budget), int(seed))
        assert made.method == (settings.economy if method == "market" else MENU[method])


def test_a_frontier_from_nothing_to_verdicts(tmp_path: Path, encoder: str, data: Path) -> None:
    out = tmp_path / "sweep"
    wishes = [
        "task=stsb",
        "seeds=[0]",
        "budgets=[0.5]",
        'rivals=["dense"]',
        f"dense.model={encoder}",
        "dense.epochs=4",
        "dense.learning_rate=3e-3",
        "many={budgets = [0.3, 0.8]}",
        "train={epochs = 1, block_size = 16, evidence = 16, batch_size = 16}",
    ]
    train_frontier(None, wishes, out, 2, data_dir=data)
    verdicts = pd.read_parquet(out / "verdicts.parquet")
    row = verdicts[(verdicts["rival"] == "dense") & (verdicts["part"] == "development")]
    assert set(row["verdict"]) <= {"win", "not worse", "lost"} and len(row)
    assert set(verdicts.loc[verdicts["rival"] == "l0", "verdict"]) == {"not run"}
    record = json.loads((out / "cells" / "market-0.5-0" / "train.json").read_text())
    assert record["parts"]["development"]["flops_fraction"] <= 0.5
    # One model stands in the tables at every budget; a rival for the verdicts like any other.
    many = verdicts[(verdicts["rival"] == "market_many") & (verdicts["part"] == "development")]
    assert list(many["budget_fraction"]) == [0.5] and many["verdict"].item() != "not run"
    # It may grow, and what is done is not done again.
    before = (out / "cells" / "market-0.5-0" / "train.json").read_bytes()
    train_frontier(None, [*wishes, "budgets=[0.5, 0.7]"], out, 2, resume=True, data_dir=data)
    assert (out / "cells" / "market-0.5-0" / "train.json").read_bytes() == before
    assert (out / "cells" / "market-0.7-0" / "train.json").is_file()


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    def refused(match: str, *wishes: str) -> None:
        with pytest.raises(EconomyError, match=match):
            train_frontier(None, ["task=stsb", *wishes], tmp_path / "s", 1)
        assert not (tmp_path / "s").exists()

    refused("unknown rival 'fisher_retran'.*'fisher_retrain'", 'rivals=["fisher_retran"]')
    refused("budgets: 1.5 is not between 0 and 1", "budgets=[1.5]")
