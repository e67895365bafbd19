"""`eval` and its timings: whose seed it tells, and one line where a record or memory fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from frontiers import make_cell

from agent_economy.cli import main
from agent_economy.errors import EconomyError
from agent_economy.training.finetune import finetune
from agent_economy.training.frontier.timing import time_cells
from agent_economy.training.score import score_folder
from agent_economy.training.settings import FinetuneSettings

SHORT = "the device ran out of memory; end what else uses it"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> Path:
    out = tmp_path_factory.mktemp("made") / "dense"
    settings = FinetuneSettings(task="stsb", model=encoder, epochs=1, batch_size=32, seed=5)
    finetune(settings, out, data_dir=data)
    return out


def out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")


def test_the_seed_is_that_of_the_training(made: Path, data: Path) -> None:
    assert score_folder(made, "stsb", data_dir=data)["seed"] == 5


def test_batches_of_any_size_are_timed(
    made: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(made), "--task", "stsb", "--data-dir", str(data), "--json", "--batch-size"]
    for size, code in ((3, 0), (0, 2)):
        with pytest.raises(SystemExit) as left:
            main([*words, str(size)])
        assert left.value.code == code
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["batch_size"] == 3
    assert found["score"] == score_folder(made, "stsb", data_dir=data)["score"]
    assert said.err == "agent-economy: --batch-size 0: give at least 1\n"


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "[1]", "is no record of a training"),
        (lambda text: json.dumps({"settings": {"task": "stsb", "epochs": "x"}}), "'epochs'"),
    ],
)
def test_a_damaged_record_is_one_line(
    tmp_path: Path,
    made: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    write: Any,
    said: str,
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "dense"))
    record = folder / "finetune.json"
    record.write_text(write(record.read_text()))
    with pytest.raises(SystemExit) as left:
        main(["eval", str(folder), "--task", "stsb", "--data-dir", str(data)])
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and said in line and line.endswith("make the model anew")


def test_memory_that_is_short_is_one_line(
    tmp_path: Path, made: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_economy.training.score.evaluate", out_of_memory)
    with pytest.raises(EconomyError, match=SHORT):
        score_folder(made, "stsb", data_dir=data)
    (make_cell(tmp_path, "market", 0.25, 0) / "economy.json").write_text("{}")
    monkeypatch.setattr("agent_economy.training.frontier.timing._timed", out_of_memory)
    with pytest.raises(EconomyError, match=SHORT):
        time_cells(tmp_path)
