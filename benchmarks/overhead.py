"""What the whole market costs: features, bids, clearing, gates, ledger, recording.

The economy's forward over 1,024 tokens, receipt written down, against the dense forward of the
same MiniLM in the same interleaved run, at SDPA.

    python -m benchmarks.overhead
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from typing import Any

import torch

from agent_economy import Economy
from agent_economy.config import MechanismConfig
from agent_economy.tasks.text import sample_texts
from agent_economy.tasks.utility import EmbeddingFidelity
from agent_economy.zoo import load
from benchmarks.clearing import RESULTS
from benchmarks.timing import interleaved, median_ratio
from benchmarks.words import parser

MECHANISMS = ("uniform_price", "greedy_density", "posted_price", "token_top_k", "uniform")


def measure(rounds: int = 15) -> list[dict[str, Any]]:
    """Phases and the whole, per mechanism, at a budget of 0.4."""
    loaded = load("minilm")
    ids = loaded.tokenizer(" ".join(sample_texts("python-docs", 64, 0)), verbose=False)["input_ids"]
    tokens = torch.tensor(ids[: 24 * 128]).view(24, 128)
    calibration = {"input_ids": tokens[8:], "attention_mask": torch.ones_like(tokens[8:])}
    batch = {"input_ids": tokens[:8], "attention_mask": torch.ones_like(tokens[:8])}
    economies = {
        name: Economy.from_model(
            loaded.model, budget_fraction=0.4, mechanism=MechanismConfig(name=name)
        )
        for name in MECHANISMS
    }
    first = economies["uniform_price"]
    first.calibrate([calibration], EmbeddingFidelity().loss)
    for each in economies.values():
        each.set_policy(first.policies[0])
    phases: dict[str, dict[str, list[float]]] = {}

    def dense() -> None:
        with torch.no_grad(), first.closed():
            first(**batch)

    def market(name: str) -> None:
        with torch.no_grad():
            receipt = economies[name](**batch).receipt
        kept = phases.setdefault(name, defaultdict(list))
        for phase, milliseconds in receipt.timings_ms.items():
            kept[phase].append(milliseconds)

    candidates = {"dense": dense} | {name: (lambda name=name: market(name)) for name in MECHANISMS}
    readings = interleaved(candidates, rounds=rounds)
    dense_ms = statistics.median(readings["dense"])
    table = [{"candidate": "dense", "median_ms": round(dense_ms, 2), "ratio": 1.0}]
    for name in MECHANISMS:
        inside = {phase: statistics.median(ms) for phase, ms in phases[name].items()}
        table.append(
            {
                "candidate": name,
                "median_ms": round(statistics.median(readings[name]), 2),
                "ratio": round(median_ratio(readings, name, "dense"), 4),
                "market_ms": round(sum(inside.values()), 2),
                "market_share_of_dense": round(sum(inside.values()) / dense_ms, 4),
                "phases_ms": {phase: round(ms, 3) for phase, ms in inside.items()},
            }
        )
    return table


def main(words: list[str] | None = None) -> None:
    """Measure and write ``benchmarks/results/overhead.json``."""
    from agent_economy.runs.manifest import environment, now

    parser(__doc__).parse_args(words)
    result = {
        "command": "python -m benchmarks.overhead",
        "date": now(),
        **environment(),
        "threads": torch.get_num_threads(),
        "rows": measure(),
    }
    (RESULTS / "overhead.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    for row in result["rows"]:
        print(row)


if __name__ == "__main__":
    main()
