"""Trained, compacted, scored: static plans exactly, per-token allocations inside what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import agent_economy  # noqa: F401 - registers compacted models
from agent_economy.compaction.compact import compact
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.executors.routed import RoutedExecutor
from agent_economy.training.finetune import finetune
from agent_economy.training.score import score_folder
from agent_economy.training.settings import FinetuneSettings, TrainSettings
from agent_economy.training.train import train


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> str:
    out = tmp_path_factory.mktemp("teacher") / "dense"
    settings = FinetuneSettings(
        task="stsb", model=encoder, epochs=6, batch_size=8, learning_rate=3e-3
    )
    finetune(settings, out, data_dir=data)
    return str(out)


def trained(teacher: str, out: Path, data: Path, method: str, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "task": "stsb", "model": teacher, "method": {"name": method}, "budget": 0.4, "epochs": 2,
        "batch_size": 16, "learning_rate": 2e-3, "block_size": 16, "evidence": 32,
    }  # fmt: skip
    return train(TrainSettings.model_validate({**base, **changes}), out, data_dir=data)


def test_a_static_plan_compacted_scores_the_same(tmp_path: Path, teacher: str, data: Path) -> None:
    record = trained(teacher, tmp_path / "m", data, "market", seed=3)
    made = compact(tmp_path / "m", tmp_path / "small")
    assert made.static and not made.routed and made.agents < made.all_agents
    masked = score_folder(tmp_path / "m", "stsb", data_dir=data)
    inside = score_folder(tmp_path / "m", "stsb", executor="compacted", data_dir=data)
    small = score_folder(tmp_path / "small", "stsb", executor="compacted", data_dir=data)
    assert inside["score"] == masked["score"] == pytest.approx(record["score"], abs=1e-5)
    assert small["score"] == pytest.approx(masked["score"], abs=1e-6)
    assert small["flops_fraction"] == pytest.approx(masked["flops_fraction"])
    assert small["latency_ratio_vs_dense"] > 0
    assert "compiled" not in inside
    assert masked["seed"] == inside["seed"] == small["seed"] == 3


def test_compiled_models_are_timed_against_a_compiled_dense_one(
    tmp_path: Path, teacher: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(teacher, tmp_path / "m", data, "market", epochs=1)
    given: list[str] = []

    def compiling(model: Any, *, dynamic: bool) -> Any:
        given.append(type(model).__name__)
        assert dynamic
        return model

    monkeypatch.setattr(torch, "compile", compiling)
    place = tmp_path / "m"
    found = score_folder(place, "stsb", executor="compacted", compiled=True, data_dir=data)
    assert found["latency_ratio_vs_dense"] > 0 and found["compiled"] is True
    assert given == ["CompactedBertForSequenceClassification", "BertForSequenceClassification"]

    def failing(model: Any, *, dynamic: bool) -> Any:
        def run(**batch: Any) -> None:
            raise RuntimeError("no C++ compiler\nand more")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(EconomyError, match=r"\(no C\+\+ compiler\); leave --compile out"):
        score_folder(place, "stsb", executor="compacted", compiled=True, data_dir=data)
    with pytest.raises(EconomyError, match="--compile is for --executor compacted"):
        score_folder(place, "stsb", compiled=True, data_dir=data)


@torch.no_grad()
def test_what_never_trades_leaves_and_the_rest_is_routed(
    tmp_path: Path, teacher: str, data: Path
) -> None:
    with torch.enable_grad():
        trained(teacher, tmp_path / "m", data, "posted", budget=0.2)
    with pytest.raises(EconomyError, match=r"not static.*--calibrate"):
        compact(tmp_path / "m", tmp_path / "none")
    (tmp_path / "texts.txt").write_text("a story and is three\n\na story is one\n\nis two\n")
    made = compact(tmp_path / "m", tmp_path / "small", calibrate=str(tmp_path / "texts.txt"))
    assert made.routed and not made.static and "token by token" in made.lines[1]
    assert made.agents < made.all_agents and made.parameters < made.all_parameters
    whole, small = (Economy.from_pretrained(tmp_path / name) for name in ("m", "small"))
    whole.population.mute(small.population.muted_A)
    routed = RoutedExecutor(small.adapter, path="routed")
    batch = {
        "input_ids": torch.randint(5, 20, (3, 9), generator=torch.Generator().manual_seed(0)),
        "attention_mask": (torch.arange(9) < torch.tensor([9, 6, 3])[:, None]).long(),
    }
    expected = whole(**batch)
    found, receipt = routed.run(batch, small.market)
    assert routed.note is None
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert receipt.spend_flops == expected.receipt.spend_flops > 0
    for executor in ("routed", "masked"):
        result = score_folder(tmp_path / "small", "stsb", executor=executor, data_dir=data)
        assert result["spend_fraction"] <= 1.005 and result["executor"] == executor
    with pytest.raises(EconomyError, match="not static, so it cannot run compacted"):
        score_folder(tmp_path / "small", "stsb", executor="compacted", data_dir=data)
