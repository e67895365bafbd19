"""The scarcity study where the model has a head for a labelled task, on a small task folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_tiny
from transformers import BertForSequenceClassification

from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
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
        }
    )
    metrics = Run(execute(SCENARIO, config, tmp_path / "run", False)).table("metrics")
    utility = metrics[metrics.metric == "utility"]
    assert set(utility.unit) == {unit} and len(utility) == 4
    assert utility.value.between(-1, 1).all()
    spent = metrics[(metrics.metric == "flops_fraction") & (metrics.budget_fraction == 0.5)]
    assert (spent.value <= 0.5).all()
