"""Ten thousand steps of a laboratory study in one cell: memory stays where it was after a thousand.

pytest -m slow -s tests/acceptance/test_flat_memory.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from models import write_tiny
from transformers import BertModel

STEPS, EARLY = 10_000, 1_000
GROWTH_MIB = 8.0
"""What the last nine thousand steps may add; the finished table alone holds 10,000 rows of ten
columns, about a megabyte."""

PROGRAM = """
import ctypes, gc, json, os, sys
from pathlib import Path
from agent_economy.runs.config import load_toml
from agent_economy.runs.runner import execute
from agent_economy.runs.scenario import find_scenario
from simulations.model import EconomyModel

folder, early, late, settings = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
step, resident = EconomyModel.step, {}


def counted(model):
    step(model)
    if model.steps in (early // 2, early, late // 2, late):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free must not hide what grows
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident[model.steps] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        parts = Path(folder, "parts", "endowment_steps")
        resident[f"flushed {model.steps}"] = sum(p.stat().st_size for p in parts.glob(".*"))


EconomyModel.step = counted
study = find_scenario("endowments")
execute(study, load_toml(study.config_type(), None, settings), Path(folder), False)
print(json.dumps(resident))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ten_thousand_steps_hold_memory_flat(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    model = write_tiny(tmp_path / "tiny", BertModel)
    # Ten tokens a text: a number, and words too long for the tokenizer.
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{k} {'x' * 110} {'y' * 110}" for k in range(STEPS + 8)))
    settings = [
        f"model={model}",
        f"text={text}",
        f"steps={STEPS}",
        "batch_size=1",
        "max_tokens=12",
        "calibration_texts=4",
        "probes=1",
        "block_size=40",
        "mean_credits=20.0",
        'endowments=["equal"]',
        "seeds=[0]",
    ]
    folder = tmp_path / "run"
    words = [sys.executable, "-c", PROGRAM, str(folder), str(EARLY), str(STEPS), *settings]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found[str(STEPS)] - found[str(EARLY)] < GROWTH_MIB
    assert found[str(STEPS)] - found[str(STEPS // 2)] < 2.0
    # Rows are on disk while the cell still runs.
    assert found[f"flushed {STEPS}"] > found[f"flushed {STEPS // 2}"] > 0
    table = pq.read_table(folder / "endowment_steps.parquet")
    assert table["step"].to_pylist() == list(range(STEPS))
