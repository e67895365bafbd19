"""Training and evaluation with budgets in milliseconds of a made-up machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_economy.cli import main
from agent_economy.costs.latency import KINDS, Line, Reading
from agent_economy.costs.latency_table import as_rows, write_table
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.runs.runner import Interrupted
from agent_economy.training.finetune import finetune
from agent_economy.training.folder import TrainingFolder
from agent_economy.training.score import score_folder
from agent_economy.training.settings import FinetuneSettings, TrainSettings
from agent_economy.training.train import train

#: heads are slow and neurons fast, unlike in FLOPs
MACHINE = {
    "head": Line(0.02, 2e-3, 1e-5),
    "keys": Line(0.01, 5e-4, 0.0),
    "block": Line(0.01, 2e-4, 0.0),
    "rest": Line(0.03, 4e-5, 0.0),
    "clearing": Line(0.0, 1e-7, 0.0),
}
SIZES = {"head": 8, "keys": 8, "block": 16, "rest": 32, "clearing": 32}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> str:
    out = tmp_path_factory.mktemp("teacher") / "dense"
    settings = FinetuneSettings(
        task="stsb", model=encoder, epochs=6, batch_size=8, learning_rate=3e-3
    )
    finetune(settings, out, data_dir=data)
    return str(out)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "latency.json"
    readings = [
        Reading(kind, SIZES[kind], 32, tokens, context, "cpu", MACHINE[kind].ms(tokens, context))
        for kind in KINDS
        for tokens in (16, 64, 512)
        for context in ((4, 16, 64) if kind == "head" else (0,))
    ]
    write_table(path, as_rows(readings), {"date": "2026-11-23", "threads": 2})
    return path


def settings(teacher: str, method: str, **changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "task": "stsb", "model": teacher, "method": {"name": method}, "budget": 0.5, "epochs": 2,
        "batch_size": 16, "learning_rate": 2e-3, "block_size": 16, "evidence": 32,
    }  # fmt: skip
    return TrainSettings.model_validate({**base, **changes})


@pytest.mark.parametrize("method", ["market", "posted", "l0"])
def test_a_budget_in_milliseconds_is_kept(
    tmp_path: Path, teacher: str, data: Path, table: Path, method: str
) -> None:
    latency = {"table": str(table), "budget_ms": 1.2, "rows": 16, "length": 8}
    record = train(settings(teacher, method, latency=latency), tmp_path / "m", data_dir=data)
    about, measured = record["latency"], record["parts"]["development"]
    assert about["budget_ms"] == pytest.approx(1.2) and about["dense_ms"] > 1.2
    rest = 2 * MACHINE["rest"].ms(16 * 8, 0)
    share = (1.2 - rest) / (about["dense_ms"] - rest)
    assert measured["budget_fraction"] == pytest.approx(share, abs=1e-4)
    assert 0 < measured["agents_ms_fraction"] <= share * 1.005
    assert record["spend_fraction"] == pytest.approx(
        measured["agents_ms_fraction"] / share, abs=1e-3
    )
    assert measured["flops_fraction"] != pytest.approx(measured["agents_ms_fraction"], abs=1e-3)
    result = score_folder(tmp_path / "m", "stsb", data_dir=data)
    assert result["spend_fraction"] == pytest.approx(record["spend_fraction"], abs=1e-9)
    assert result["agents_ms_per_example"] == pytest.approx(measured["agents_ms_per_example"])
    economy = Economy.from_pretrained(tmp_path / "m")
    assert economy.config.latency is not None and economy.config.latency.date == "2026-11-23"
    if method != "l0":
        tighter = score_folder(tmp_path / "m", "stsb", budget_ms=0.7, data_dir=data)
        assert tighter["agents_ms_per_example"] < result["agents_ms_per_example"]


def test_a_model_trained_for_flops_clears_milliseconds(
    tmp_path: Path, teacher: str, data: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(teacher, "market"), tmp_path / "m", data_dir=data)
    found = score_folder(tmp_path / "m", "stsb", budget_ms=2.0, table=table, data_dir=data)
    assert found["spend_fraction"] <= 1 and 0 < found["agents_ms_fraction"] < 1
    monkeypatch.setenv("AGENT_ECONOMY_CACHE", str(tmp_path))
    with pytest.raises(EconomyError, match="measure some with `agent-economy bench latency`"):
        score_folder(tmp_path / "m", "stsb", budget_ms=2.0, data_dir=data)
    with pytest.raises(EconomyError, match="the same thing twice"):
        score_folder(tmp_path / "m", "stsb", budget=0.5, budget_ms=2.0, table=table, data_dir=data)


def test_a_budget_that_the_dense_model_keeps_buys_everything(
    tmp_path: Path, teacher: str, data: Path, table: Path
) -> None:
    latency = {"table": str(table), "budget_ms": 99.0}
    made = settings(teacher, "posted", latency=latency, epochs=1)
    record = train(made, tmp_path / "m", data_dir=data)
    assert record["budget_fraction"] == record["spend_fraction"] == 1


def test_bad_input_of_the_command_line(
    tmp_path: Path, teacher: str, table: Path, data: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert stop.value.code == 2
        assert not (tmp_path / "m").exists()
        return capsys.readouterr().err

    monkeypatch.setenv("AGENT_ECONOMY_CACHE", str(tmp_path / "cache"))
    start = ("train", "--task", "stsb", "--model", teacher, "-o", tmp_path / "m")
    start = (*start, "--data-dir", data, "-s", "block_size=16")
    assert "measure some with `agent-economy bench latency`" in refused(*start, "--budget-ms", 5)
    start = (*start, "-s", f"latency.table={table}")
    assert "less than what 2 layers take without any agent" in refused(*start, "--budget-ms", 0.01)
    assert "latency.budget_ms" in refused(*start, "--budget-ms", -1)
    twice = "--budget and --budget-ms say the same thing twice; leave one out"
    assert twice in refused(*start, "--budget-ms", 40, "--budget", 0.25)
    assert twice in refused(*start, "--budget-ms", 40, "-s", "budget = 0.25")
    rest_ms = 2 * MACHINE["rest"].ms(32 * 8, 0)
    words = ("--budget-ms", f"{rest_ms + 1e-4:.6f}", "-s", "latency.length=8")
    assert f"--budget-ms {rest_ms + 1e-4:g} pays for no agent at all" in refused(*start, *words)


def test_another_price_list_is_not_taken_up(
    tmp_path: Path, teacher: str, data: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "latency.json", tmp_path / "m"
    found = json.loads(table.read_text("utf-8"))
    path.write_text(json.dumps(found), "utf-8")
    chosen = settings(teacher, "market", latency={"table": str(path)}, epochs=4)
    save, saves = TrainingFolder.save, []

    def interrupted(*words: Any) -> None:
        save(*words)
        saves.append(words)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(TrainingFolder, "save", interrupted)
        train(chosen, out, data_dir=data, save_seconds=0)
    assert saves and "measured with 2 threads and this process runs with" in capsys.readouterr().err
    record = (out / "train.json").read_bytes()
    dearer = [{**row, "ms": row["ms"] * 2} for row in found["rows"]]
    path.write_text(json.dumps({**found, "rows": dearer}), "utf-8")
    with pytest.raises(EconomyError, match="table of latencies has changed since the training"):
        train(chosen, out, resume=True, data_dir=data)
    assert (out / "train.json").read_bytes() == record
    path.write_text(json.dumps({**found, "threads": torch.get_num_threads()}), "utf-8")
    capsys.readouterr()
    assert train(chosen, out, resume=True, data_dir=data)["status"] == "complete"
    assert "threads" not in capsys.readouterr().err
