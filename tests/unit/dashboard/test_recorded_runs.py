"""A finished run played back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agent_economy.dashboard.recording import Recording, Replay
from agent_economy.dashboard.stage import stage_for
from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run


def test_cells_by_name_the_one_with_a_sentence_first(recorded: Path) -> None:
    recording = Recording(Run(recorded))
    assert list(recording.cells) == [
        "uniform_price, budget_fraction 0.4",
        "uniform_price, budget_fraction 0.8",
    ]


def test_steps_prices_and_wallets(recorded: Path) -> None:
    replay = Replay(Recording(Run(recorded)), "uniform_price, budget_fraction 0.8")
    assert replay.history("step") == [0, 1, 2]
    expected = [[(layer + 1) * (step + 1) / 0.8 for layer in (0, 1)] for step in range(3)]
    assert np.allclose(replay.history("price_Y"), expected)
    assert replay.wallet_YN is not None
    assert replay.wallet_YN.tolist() == [[0.0, 1.0], [10.0, 11.0]]
    assert replay.served_YN is not None
    assert np.allclose(replay.served_YN, [[0.0, 0.8], [0.0, 0.8]])
    # of 100, 101, 110, 111 the middle is 105.5
    assert replay.history("wallet_Q")[1][1] == pytest.approx(105.5)
    assert replay.reading is None and replay.heads == 1
    replay.step()
    assert replay.wallet_YN.tolist() == [[100.0, 101.0], [110.0, 111.0]] and replay.running
    assert replay.numbers()["step"] == "1 of 2"
    replay.step()
    assert replay.at == 2 and not replay.running
    replay.step()
    assert replay.at == 2  # there is nothing after the last


def test_the_sentence_that_was_kept(recorded: Path) -> None:
    reading = Replay(Recording(Run(recorded))).reading
    assert reading is not None
    assert reading.tokens == ["[CLS]", "hello", "[SEP]"] and reading.heads == 1
    for layer in range(2):
        for token in range(3):
            assert reading.price_YL[layer, token] == 10 * layer + token
            for agent in range(2):
                assert reading.bought_YLN[layer, token, agent] == (token + agent + layer) % 2
                assert reading.bid_YLN[layer, token, agent] == token + 0.5 * agent


def test_a_study_with_a_table_of_its_own(recorded: Path) -> None:
    """Prices per step and row are enough: their mean is drawn."""
    for name in ("prices", "agents", "allocations"):
        (recorded / f"{name}.parquet").unlink()
    rows = [
        {"arm": "a", "seed": 0, "step": step, "row": row, "price_per_gflop": 10.0 * step + row}
        for step in range(3)
        for row in range(2)
    ]
    pd.DataFrame(rows).to_parquet(recorded / "shock_steps.parquet")
    replay = Replay(Recording(Run(recorded)))
    assert [list(price) for price in replay.history("price_Y")] == [[0.5], [10.5], [20.5]]
    assert replay.wallet_YN is None and replay.history("wallet_Q") == []


def test_a_run_without_steps_is_shown_live_and_says_why(recorded: Path) -> None:
    for name in ("prices", "agents", "allocations"):
        (recorded / f"{name}.parquet").unlink()
    with pytest.raises(EconomyError, match="neither prices nor wallets step by step"):
        Recording(Run(recorded))
    stage = stage_for(str(recorded), None, [])
    assert stage.recording is None and stage.setting is not None
    assert stage.setting.supply == 0.4 and stage.setting.seed == 3
    assert "neither prices nor wallets" in stage.why_not
    (recorded / "config.toml").write_text('task = "stsb"\n')
    with pytest.raises(EconomyError, match=r"neither prices.*names no model"):
        stage_for(str(recorded), None, [])


def test_a_recorded_run_has_both(recorded: Path) -> None:
    stage = stage_for(str(recorded), None, ["supply=0.7"])
    assert stage.recording is not None and stage.setting is not None
    assert stage.setting.supply == 0.7 and stage.title == "run"
