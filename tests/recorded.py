"""A finished run folder made by hand, small enough to know every number in it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd


def write_recorded(folder: Path) -> Path:
    """Two cells of three steps, two layers of one head and one block; one cell kept a sentence."""
    prices, agents, allocations = [], [], []
    for budget in (0.8, 0.4):
        cell = {"mechanism": "uniform_price", "budget_fraction": budget}
        for step in range(3):
            for layer in range(2):
                where = {**cell, "step": step, "layer": layer}
                price = (layer + 1) * (step + 1) / budget
                line = {"row": -1, "token": -1, "token_text": "", "price_per_gflop": price}
                prices.append(where | line)
                agents += [
                    where
                    | {
                        "agent": agent,
                        "kind": ("head", "block")[agent],
                        "wallet_credits": 100.0 * step + 10.0 * layer + agent,
                        "served_fraction": budget * agent,
                    }
                    for agent in range(2)
                ]
    for layer in range(2):
        for token, text in enumerate(("[CLS]", "hello", "[SEP]")):
            where = {**cell, "layer": layer, "token": token, "token_text": text, "row": 0}
            prices.append(where | {"step": -1, "price_per_gflop": 10.0 * layer + token})
            allocations += [
                where
                | {"agent": agent, "kind": ("head", "block")[agent]}
                | {"allocation": float((token + agent + layer) % 2), "bid": token + 0.5 * agent}
                for agent in range(2)
            ]
    folder.mkdir()
    (folder / "config.toml").write_text('model = "minilm"\nbudgets = [0.8, 0.4]\nseeds = [3]\n')
    (folder / "manifest.json").write_text(json.dumps({"scenario": "x", "status": "complete"}))
    for name, rows in {"prices": prices, "agents": agents, "allocations": allocations}.items():
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    return folder
