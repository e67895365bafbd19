"""``agent-economy compact``: an economy's folder in, a smaller model's folder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import write_tiny
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    PreTrainedModel,
)

from agent_economy import Economy, EconomyError
from agent_economy.cli import main
from agent_economy.compaction.compact import busy_agents, compact, static_plan
from agent_economy.devices import usable_device
from agent_economy.zoo.load import quiet


def economy_in(folder: Path, plan: bool, **changes: Any) -> Economy:
    """A tiny classifier with an economy; 4 heads and 5 blocks of 16 neurons in each of 2 layers."""
    folder.mkdir()
    with quiet():
        return _economy_in(folder, plan, **changes)


def _economy_in(folder: Path, plan: bool, **changes: Any) -> Economy:
    write_tiny(folder, BertForSequenceClassification)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    economy = Economy.from_model(model, block_size=16, policy={"name": "random"}, **changes)
    if plan:
        economy.market.plan_YN = torch.tensor([[1, 0, 0, 1, 0, 1, 0, 0, 0], [0] * 9]).bool()
    economy.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return economy


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run("compact", *words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line
    return line


@torch.no_grad()
def test_a_static_economy_becomes_a_smaller_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    economy_in(tmp_path / "economy", plan=True)
    assert run("compact", tmp_path / "economy", "-o", tmp_path / "small") == 0
    told = capsys.readouterr().out
    assert "3 of 18 agents" in told and told.count("\n") == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    small = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    assert small.config.compaction["first_only"]
    economy = Economy.from_pretrained(tmp_path / "economy")
    batch = tokenizer(["a tiny text", "b"], padding=True, return_tensors="pt")
    with economy.trying():
        expected = economy(**batch).logits
    torch.testing.assert_close(small.eval()(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    assert not [each for each in (tmp_path / "small").iterdir() if each.name.startswith(".")]


def test_an_allocation_that_is_not_static_needs_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    economy_in(tmp_path / "economy", plan=False, budget_fraction=0.3)
    line = refused(capsys, tmp_path / "economy", "-o", tmp_path / "small")
    assert "not static" in line and "--calibrate" in line
    assert not (tmp_path / "small").exists()
    (tmp_path / "texts.txt").write_text("a few words\n\nand a few more of them\n")
    words = ("--calibrate", tmp_path / "texts.txt")
    assert run("compact", tmp_path / "economy", "-o", tmp_path / "small", *words) == 0
    assert "not static" in capsys.readouterr().out
    assert (tmp_path / "small" / "model.safetensors").is_file()


def test_agents_that_serve_no_token_are_found(tmp_path: Path) -> None:
    economy = economy_in(tmp_path / "economy", plan=False, budget_fraction=0.5)
    quiet = economy.population
    batch = {"input_ids": torch.randint(5, 60, (3, 9)), "attention_mask": torch.ones(3, 9).long()}
    batch["attention_mask"][1, 4:] = 0
    step, wallets = economy.market.step, economy.ledger.state_dict()
    before = {key: value.clone() for key, value in wallets.items()}
    busy_YN = busy_agents(economy, [batch])
    receipt = economy(**batch).receipt
    for layer in range(quiet.layers):
        served_BLN = receipt.allocation_BLN(layer) > 0
        assert torch.equal(busy_YN[layer], served_BLN.flatten(0, 1).any(0))
    assert economy.market.step == step + 1  # this test's own forward
    assert before.keys() == wallets.keys()
    assert static_plan(economy) is None


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bare").mkdir()
    write_tiny(tmp_path / "bare", BertForSequenceClassification)
    out = tmp_path / "small"
    assert "holds no economy" in refused(capsys, tmp_path / "bare", "-o", out)
    economy_in(tmp_path / "economy", plan=True)
    given = (tmp_path / "economy", "-o", out)
    assert "did you mean 'onnx'" in refused(capsys, *given, "--format", "onx")
    assert "opset 7" in refused(capsys, *given, "--format", "onnx", "--opset", 7)
    assert "--format onnx" in refused(capsys, *given, "--opset", 18)
    assert "here: cpu" in refused(capsys, *given, "--device", "cuda:99")
    assert "no device 'toaster'" in refused(capsys, *given, "--device", "toaster")
    assert not out.exists()
    assert "not empty" in refused(capsys, tmp_path / "economy", "-o", tmp_path / "bare")


def test_a_failed_export_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    economy_in(tmp_path / "economy", plan=True)

    def fails(*args: object, **options: object) -> None:
        raise EconomyError("no such operator")

    monkeypatch.setattr("agent_economy.compaction.compact.export_onnx", fails)
    with pytest.raises(EconomyError, match="no such operator"):
        compact(tmp_path / "economy", tmp_path / "small", form="onnx")
    assert not list((tmp_path / "small").iterdir())


def test_the_onnx_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What export_onnx writes lies beside the config and the tokenizer, and no other weights."""
    pytest.importorskip("onnxruntime")
    economy_in(tmp_path / "economy", plan=True)

    def writes(model: PreTrainedModel, path: Path, *, opset: int) -> float:
        path.write_text(f"{type(model).__name__} at {opset}")
        return 2e-7

    monkeypatch.setattr("agent_economy.compaction.compact.export_onnx", writes)
    made = compact(tmp_path / "economy", tmp_path / "small", form="onnx", opset=20)
    assert made.lines[0].endswith("ONNX within 2e-07 of torch")
    small = tmp_path / "small"
    assert {"model.onnx", "config.json", "tokenizer.json"} <= {
        each.name for each in small.iterdir()
    }
    assert not list(small.glob("*.safetensors"))
    found = (small / "model.onnx").read_text()
    assert found == "CompactedBertForSequenceClassification at 20"
    written = json.loads((small / "config.json").read_text())
    assert written["compaction"]["heads"] == [[0, 3], []]


def test_memory_that_is_short_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    economy_in(tmp_path / "economy", plan=True)

    def fails(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")

    monkeypatch.setattr("agent_economy.compaction.compact.shrink", fails)
    with pytest.raises(EconomyError, match=r"ran out of memory; pass --device cpu$"):
        compact(tmp_path / "economy", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_devices() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    with pytest.raises(EconomyError, match="'cpu:3' is not there"):
        usable_device("cpu:3")
