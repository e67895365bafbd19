"""A synthetic frontier: cells as trainings leave them, numbers made up but sane."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from agent_economy.tasks.scores import score

BUDGETS = (0.6, 0.4, 0.25, 0.15)
PARTS = {"development": 120, "selection": 60}
LAYERS, ATTENDED = 3, 20
# How much noise a method adds to the truth, at budget 1 and for every bit of budget that it lacks.
SKILL = {
    "market": (0.25, 0.5),
    "dense": (0.25, 0.0),
    "dense_on": (0.24, 0.0),
    "random": (0.5, 4.0),
    "kwon": (0.3, 2.5),
    "fisher_retrain": (0.25, 0.7),
}


def make_cell(
    folder: Path,
    method: str,
    budget: float,
    seed: int,
    *,
    task: str = "stsb",
    status: str = "complete",
    attention: bool = True,
) -> Path:
    """One training folder under ``folder/cells``."""
    path = folder / "cells" / f"{method}-{budget:g}-{seed}"
    path.mkdir(parents=True)
    base, slope = SKILL.get(method, (0.4, 1.0))
    noise = base + slope * (1 - budget) ** 2
    metric = {"stsb": "pearson_spearman", "cola": "matthews", "sst2": "accuracy"}[task]
    predictions, spreads, parts = [], [], {}
    for part, n in PARTS.items():
        draw = np.random.default_rng([len(part), n])  # the same examples for everybody
        truth = draw.normal(size=n)
        hardness = draw.normal(size=n)
        own = np.random.default_rng([seed, round(100 * budget), *method.encode(), n])
        guess = truth + noise * (0.6 * hardness + 0.4 * own.normal(size=n))
        if metric != "pearson_spearman":
            truth, guess = (truth > 0).astype(float), (guess > 0).astype(float)
        rows = {"part": part, "row": np.arange(n), "prediction": guess, "label": truth}
        predictions.append(pd.DataFrame(rows))
        fraction = budget * (1 - 0.01 * own.random())
        parts[part] = {
            "metric": metric,
            "score": score(metric, guess, truth),
            "n": n,
            "flops_per_token": 1e6 * fraction,
            "flops_fraction": fraction,
            "budget_fraction": budget,
            "spend_fraction": fraction / budget,
        }
        grid = pd.MultiIndex.from_product([range(ATTENDED), range(LAYERS)], names=["row", "layer"])
        spread = grid.to_frame(index=False)
        spread.insert(0, "part", part)
        entropy = 2 - 0.5 * (1 - budget) + 0.1 * hardness[spread["row"]]
        spread["entropy_nats"] = entropy + 0.05 * own.normal(size=len(spread))
        spread["gini"] = 0.3 + 0.2 * (1 - budget) + 0.02 * own.normal(size=len(spread))
        spreads.append(spread)
    record = {
        "task": task,
        "metric": metric,
        "method": method,
        "budget_fraction": budget,
        "parts": parts,
        "train_loss": [1.0, 0.5],
        "train_seconds": 60.0 + seed,
        "status": status,
        "settings": {"task": task, "seed": seed},
    }
    (path / "train.json").write_text(json.dumps(record))
    if status == "complete":
        pd.concat(predictions).to_parquet(path / "predictions.parquet", index=False)
        if attention:
            pd.concat(spreads).to_parquet(path / "attention.parquet", index=False)
    return path


def make_frontier(
    folder: Path,
    *,
    methods: Iterable[str] = tuple(SKILL),
    budgets: Iterable[float] = BUDGETS,
    seeds: Iterable[int] = (0, 1, 2),
    task: str = "stsb",
    status: str = "complete",
) -> Path:
    """A sweep's folder with all of its cells and its manifest, not collected yet."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for method in methods:
        for budget in (1.0,) if method.startswith("dense") else budgets:
            for seed in seeds:
                names.append(make_cell(folder, method, budget, seed, task=task).name)
    (folder / "config.toml").write_text(
        f'# agent-economy train --frontier -o sweep --resume\ntask = "{task}"\n'
        '[economy]\nname = "market"\n[economy.options]\nfeature = "<rank>"\n'
    )
    manifest = {
        "scenario": "frontier",
        "status": status,
        "versions": {"python": "3.12.0"},
        "machine": {"cpu": "A CPU", "cores": 2},
        "seeds": {"seeds": list(seeds)},
        "cells": len(names),
        "jobs": names,
        "resume_command": f"agent-economy train --frontier -o {folder.name} --resume",
        "started": "2025-01-01T12:00:00+00:00",
        "resumed": [],
        "ended": "2025-01-01T13:00:00+00:00",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
