"""The scarcity study where the model has a head for a labelled task, on a small task folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import write_tiny
from transformers import BertForSequenceClassification

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from agent_economy.tasks import load_task, score
from simulations.scarcity import SCENARIO
from simulations.scarcity.config import ScarcityConfig


def task_folder(folder: Path) -> None:
    """Forty rows of each part, in the formats of CoLA and STS-B."""
    for part in ("train.tsv", "val.tsv", "in_domain_dev.tsv"):
        rows = [f"src\t{i % 2}\t{'' if i % 2 else '*'}\ta sentence number {i}" for i in range(40)]
        (folder / "cola").mkdir(exist_ok=True)
        (folder / "cola" / part).write_text("\n".join(rows) + "\n", "utf-8")
    for part in ("sts-train.csv", "sts-dev.csv"):
        rows = [
            f"main\tfile\t2012\t{i:04d}\t{i % 6}.0\tone sentence {i}\tanother one {i * 7}"
            for i in range(40)
        ]
        (folder / "stsb").mkdir(exist_ok=True)
        (folder / "stsb" / part).write_text("\n".join(rows) + "\n", "utf-8")


@pytest.mark.parametrize(
    ("task", "labels", "unit"),
    [("cola", 2, "Matthews correlation"), ("stsb", 1, "mean of Pearson and Spearman")],
)
def test_utility_is_the_labelled_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, labels: int, unit: str
) -> None:
    task_folder(tmp_path)
    monkeypatch.setenv("AGENT_ECONOMY_DATA", str(tmp_path))
    (tmp_path / "model").mkdir()
    model = write_tiny(tmp_path / "model", BertForSequenceClassification, num_labels=labels)
    config = ScarcityConfig.model_validate(
        {
            "model": model,
            "task": task,
            "steps": 2,
            "batch_size": 16,
            "calibration_texts": 16,
            "block_size": 32,
            "budgets": [1.0, 0.5],
            "seeds": [0],
            "markets": [{"mechanism": "uniform_price"}],
            "rivals": ["fisher_mask", {"name": "greedy_mask", "options": {"forwards": 4}}],
        }
    )
    run = Run(execute(SCENARIO, config, tmp_path / "run", False))
    metrics, examples = run.table("metrics"), run.table("examples")
    assert set(metrics[metrics.metric == "utility_of_batch"].unit) == {unit}
    assert "utility" not in set(metrics.metric)  # no mean of batches passes for the score
    spent = metrics[(metrics.metric == "flops_fraction") & (metrics.budget_fraction == 0.5)]
    assert (spent.value <= 0.5).all()
    # Every cell met the same 32 examples, with the labels that the file gives them.
    data = load_task(task, "validation")
    for _, cell in examples.groupby(["mechanism", "policy", "scope", "budget_fraction", "seed"]):
        assert cell.example.tolist() == examples.example[:32].tolist() and len(cell) == 32
        assert cell.label.tolist() == data.labels[cell.example].tolist()
    # Full supply is the dense model, and its predictions give the utility of each batch.
    full = examples[(examples.budget_fraction == 1.0) & (examples.mechanism == "uniform_price")]
    dense = run.table("dense")
    assert full.prediction.to_numpy() == pytest.approx(dense.prediction.to_numpy(), abs=1e-5)
    batch = full[full.step == 1]
    (measured,) = metrics.query(
        "metric == 'utility_of_batch' and step == 1 and budget_fraction == 1 "
        "and mechanism == 'uniform_price'"
    ).value
    assert score(data.metric, batch.prediction, batch.label) == pytest.approx(measured)
    chosen = metrics[metrics.metric == "selection_loss"]
    assert set(chosen.policy) == {"fisher_mask", "greedy_mask"} and (chosen.value > 0).all()


def test_seeds_measure_different_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task_folder(tmp_path)
    monkeypatch.setenv("AGENT_ECONOMY_DATA", str(tmp_path))
    (tmp_path / "model").mkdir()
    model = write_tiny(tmp_path / "model", BertForSequenceClassification, num_labels=2)
    study = {
        "model": model,
        "task": "cola",
        "steps": 2,
        "batch_size": 8,
        "calibration_texts": 8,
        "block_size": 32,
        "budgets": [0.5],
        "seeds": [3, 1],
        "markets": [{"mechanism": "posted_price"}],
        "rivals": [],
        "detail": False,
    }
    config = ScarcityConfig.model_validate(study)
    run = Run(execute(SCENARIO, config, tmp_path / "run", False))
    examples = run.table("examples")
    assert examples.example.is_unique and len(examples) == 32
    assert set(run.tables) == {"agents", "dense", "examples", "metrics", "prices", "timings"}
    lengths = [len(load_task("cola", "validation").sentences1[i]) for i in examples.example]
    assert sum(lengths[:8]) <= sum(lengths[8:16])  # the shortest first
    with pytest.raises(EconomyError, match="cola has 40 examples to measure on; 2 seeds x 3 steps"):
        many = ScarcityConfig.model_validate({**study, "steps": 3})
        execute(SCENARIO, many, tmp_path / "many", False)


def test_perplexity_needs_a_decoder(tiny_study: ScarcityConfig, tmp_path: Path) -> None:
    config = ScarcityConfig.model_validate({**tiny_study.model_dump(), "task": "wikitext2"})
    with pytest.raises(EconomyError, match="predicts no next token"):
        execute(SCENARIO, config, tmp_path / "run", False)
