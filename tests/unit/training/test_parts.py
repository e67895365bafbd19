"""Parts of a task: which rows nobody looks at, and that everybody agrees about them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agent_economy.errors import EconomyError
from agent_economy.tasks.data import TaskData
from agent_economy.training import loop
from agent_economy.training import train as module
from agent_economy.training.finetune import finetune
from agent_economy.training.parts import (
    divided,
    load_part,
    read_part,
    reserved,
    scored_parts,
    split,
)
from agent_economy.training.score import score_folder
from agent_economy.training.settings import FinetuneSettings, TrainSettings
from agent_economy.training.train import train

SHARE = 0.3


def sentences(count: int, seed: int = 0) -> TaskData:
    words = np.random.default_rng(seed).integers(0, 10**6, count)
    labels = np.arange(count) % 2
    return TaskData("cola", [f"s {word}" for word in words], None, labels, "matthews", 2)


def test_a_row_is_a_test_row_by_its_text_alone() -> None:
    whole = sentences(2000)
    rest, test = reserved(whole, SHARE)
    assert test is not None and len(rest) + len(test) == 2000
    # Binomial: 600 expected, standard deviation 20.
    assert 520 < len(test) < 680
    for text in test.sentences1[:20]:
        first = hashlib.sha256(f"{text}\x1f".encode()).digest()[:8]
        assert int.from_bytes(first, "big") < SHARE * 2**64
    # Whatever stands around it, and in whatever order.
    half = list(range(1999, -1, -2))
    fewer = TaskData("cola", [whole.sentences1[i] for i in half], None, whole.labels[half], "", 2)
    _, again = reserved(fewer, SHARE)
    assert again is not None
    assert set(again.sentences1) == set(test.sentences1) & set(fewer.sentences1)
    # A larger share holds the smaller one.
    _, wider = reserved(whole, 2 * SHARE)
    assert wider is not None and set(test.sentences1) < set(wider.sentences1)
    assert reserved(whole, None) == (whole, None)
    with pytest.raises(EconomyError, match=r"--test-share 0\.3 of 1 examples leaves one side"):
        reserved(sentences(1), SHARE)


def test_nothing_else_is_drawn_from_test_rows() -> None:
    whole = sentences(300)
    held: set[tuple[str, ...]] = set()
    for seed in (0, 1):
        settings = TrainSettings(
            task="cola", model="m", seed=seed, limit=100, hold_out=0.2, test_share=SHARE
        )
        parts = divided(whole, settings)
        texts = {name: set(part.sentences1) for name, part in parts.items()}
        assert list(parts) == ["train", "selection", "test"] and len(parts["train"]) == 100
        assert not texts["test"] & (texts["train"] | texts["selection"])
        assert not texts["train"] & texts["selection"]
        held.add((*parts["selection"].sentences1, *parts["test"].sentences1))
    assert len(held) == 1, "whatever the seed"
    # Without a test part everything is as it was before there were any.
    plain = divided(whole, TrainSettings(task="cola", model="m", hold_out=0.2))
    rest, selection = split(whole, 0.2)
    assert selection is not None and plain["selection"].sentences1 == selection.sentences1
    assert plain["train"].sentences1 == rest.sentences1


def test_who_selects_sees_nothing_else() -> None:
    assert scored_parts(["train", "development"]) == ["development"]
    assert scored_parts(["train", "test", "development"]) == ["development", "test"]
    assert scored_parts(["train", "selection", "test", "development"]) == ["selection"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "dense"
    settings = FinetuneSettings(
        task="stsb", model=encoder, epochs=4, batch_size=8, learning_rate=3e-3, test_share=SHARE
    )
    record = finetune(settings, out, data_dir=data)
    assert record["examples"]["train"] < 90
    return out


def settings(teacher: Path, **changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "task": "stsb",
        "model": str(teacher),
        "budget": 0.5,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "block_size": 16,
        "evidence": 16,
        "test_share": SHARE,
    }
    return TrainSettings.model_validate({**base, **changes})


def test_test_rows_are_scored_beside_and_trained_on_by_nobody(
    tmp_path: Path, teacher: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []
    real = loop.make_step

    def watched(student: Any, *rest: Any) -> Any:
        met.append(len(student.bench.rows))
        return real(student, *rest)

    monkeypatch.setattr(loop, "make_step", watched)
    many = {"name": "market", "options": {"budgets": [0.3, 0.8]}}
    record = train(settings(teacher, method=many), tmp_path / "m", data_dir=data)
    examples = record["examples"]
    assert examples["train"] + examples["test"] == 90 and set(met) == {examples["train"]}
    assert list(record["parts"]) == ["development", "test"]
    assert record["score"] == record["parts"]["development"]["score"] and record["n"] == 36
    assert record["parts"]["test"]["n"] == examples["test"]
    table = pd.read_parquet(tmp_path / "m" / "predictions.parquet")
    assert table["part"].value_counts().to_dict() == {"development": 36, "test": examples["test"]}
    # One model at another budget, as in a frontier, is scored on the same parts.
    score_folder(tmp_path / "m", "stsb", budget=0.4, data_dir=data, out=tmp_path / "cell")
    cell = pd.read_parquet(tmp_path / "cell" / "predictions.parquet")
    pd.testing.assert_frame_equal(cell.drop(columns="prediction"), table.drop(columns="prediction"))
    parts = json.loads((tmp_path / "cell" / "train.json").read_text())["parts"]
    assert list(parts) == ["development", "test"]
    assert parts["test"]["flops_fraction"] <= 0.4


def test_a_teacher_that_saw_test_rows_is_refused(tmp_path: Path, teacher: Path, data: Path) -> None:
    with pytest.raises(EconomyError, match=r"test-share 0\.3, so it has seen.*--test-share 0\.2"):
        train(settings(teacher, test_share=0.2), tmp_path / "m", data_dir=data)
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    record = json.loads((own / "finetune.json").read_text())
    del record["settings"]["test_share"]  # as before there were test parts
    (own / "finetune.json").write_text(json.dumps(record))
    with pytest.raises(EconomyError, match=r"test-share 0, so it has seen rows that test-share"):
        train(settings(own), tmp_path / "m", data_dir=data)
    # Selection rows are drawn from what test rows leave: both must agree.
    with pytest.raises(EconomyError, match=r"test-share 0\.3, so it has seen"):
        changed = settings(teacher, hold_out=0.2, test_share=None)
        train(changed, tmp_path / "m", data_dir=data)


def test_a_trained_economy_that_saw_test_rows_is_refused(
    tmp_path: Path, teacher: Path, data: Path
) -> None:
    seen, out = tmp_path / "seen", tmp_path / "m"
    train(settings(teacher, test_share=None, epochs=0), seen, data_dir=data)
    message = r"the model in .*seen was trained with test-share 0, .* test-share 0\.3 keeps apart"
    with pytest.raises(EconomyError, match=message):
        train(settings(seen, epochs=0), out, data_dir=data)
    dense: dict[str, Any] = {"epochs": 1, "limit": 8}
    with pytest.raises(EconomyError, match=message):
        again = FinetuneSettings(task="stsb", model=str(seen), test_share=SHARE, **dense)
        finetune(again, out, data_dir=data)
    (seen / "finetune.json").write_text("{")
    with pytest.raises(EconomyError, match=r"finetune\.json does not say what"):
        train(settings(seen, epochs=0), out, data_dir=data)
    (seen / "finetune.json").unlink()
    assert not out.exists()
    # Rows of another task are others, and who left the same rows alone may be gone on from.
    other = FinetuneSettings(task="sst2", model=str(seen), hold_out=0.2, **dense)
    assert finetune(other, tmp_path / "sst2", data_dir=data)["status"] == "complete"
    train(settings(teacher, epochs=0), tmp_path / "same", data_dir=data)
    train(settings(tmp_path / "same", epochs=0), tmp_path / "next", data_dir=data)


def test_a_training_without_test_rows_resumes_as_one_from_before(
    tmp_path: Path, teacher: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(teacher, test_share=None)
    train(chosen, tmp_path / "m", data_dir=data)
    path = tmp_path / "m" / "train.json"
    record = json.loads(path.read_text())
    del record["settings"]["test_share"]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(module, "_train", None)  # nothing is trained again
    assert train(chosen, tmp_path / "m", resume=True, data_dir=data)["score"] == record["score"]


@pytest.mark.parametrize(
    "read", [lambda: load_part("nope", "train", None), lambda: read_part("nope", Path("x"))]
)
def test_an_unknown_task_is_told_all_that_there_are(read: Any) -> None:
    with pytest.raises(EconomyError, match=r"'nope'; known: cola, mnli, sst2, stsb, wikitext2"):
        read()
