"""What clearing a market costs, against the model's dense forward and against sorting.

Two questions, each answered within one interleaved run:

- 1,024 tokens x 144 agents (MiniLM's six layers of 24): six spot clearings of a layer, and one
  joint clearing of all agents, as a share of MiniLM's dense forward on the same tokens;
- 10 million bids in one clearing, as multiples of one row-wise ``torch.sort`` of the same tensor.

    agent-economy bench clearing --json
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agent_economy.costs.tariff import LayerShape, layer_tariff
from agent_economy.mechanisms import MECHANISMS, Mechanism, State
from benchmarks.timing import interleaved, median_ratio

MINILM = LayerShape(384, 12, 12, 32, 1536, 2, 128, causal=False)
RESULTS = Path(__file__).parent / "results"
Order = tuple[Any, ...]


def order(rows: int, length: int, layers: int, budget_fraction: float = 0.4) -> Order:
    """Random bids for so many tokens and ``layers`` x 24 agents, with tariff and supply."""
    shape = LayerShape(384, 12 * layers, 12 * layers, 32, 1536 * layers, 2, 128, causal=False)
    tariff = layer_tariff(shape, torch.ones(rows, length, dtype=torch.bool))
    generator = torch.Generator().manual_seed(0)
    # heavy-tailed, like calibrated valuations
    bid_BLN = torch.rand(rows, length, shape.agents, generator=generator) ** 4
    supply_BL = (tariff.dense_flops_BL * budget_fraction).long()
    active_N = torch.ones(shape.agents, dtype=torch.bool)
    return bid_BLN, tariff, supply_BL, active_N, torch.full((rows, shape.agents), 1e9)


def clearer(mechanism: Mechanism, job: Order, times: int = 1) -> Callable[[], None]:
    """Clear the same job ``times`` times, the state carried along."""
    _, tariff, _, active_N, _ = job
    state: State = mechanism.initial_state(len(active_N), tariff.setup_flops_U.shape[0], 0)

    def run() -> None:
        nonlocal state
        for _ in range(times):
            _, state = mechanism.clear(*job, state)

    return run


def mechanisms() -> list[tuple[str, Mechanism]]:
    """Every mechanism in every scope it clears."""
    return [
        (f"{name}/{scope}", member(scope))
        for name, member in MECHANISMS.members().items()
        for scope in member.scopes
    ]


def against_forward(rounds: int = 15) -> list[dict[str, Any]]:
    """Clearing 1,024 tokens x 144 agents against MiniLM's dense forward."""
    from agent_economy.zoo import load

    model = load("minilm").model
    batch = {"input_ids": torch.randint(1000, 20000, (8, 128))}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    layer, joint = order(8, 128, 1), order(8, 128, 6)

    @torch.no_grad()
    def forward() -> None:
        model(**batch)

    candidates: dict[str, Callable[[], object]] = {"forward": forward}
    for name, mechanism in mechanisms():
        candidates[f"{name}, six layers"] = clearer(mechanism, layer, 6)
        candidates[f"{name}, joint"] = clearer(mechanism, joint)
    readings = interleaved(candidates, rounds=rounds)
    return [
        {
            "job": "1024 tokens x 144 agents",
            "candidate": name,
            "median_ms": round(statistics.median(times), 3),
            "ratio": round(median_ratio(readings, name, "forward"), 4),
            "to": "MiniLM dense forward",
        }
        for name, times in readings.items()
    ]


def against_sort(rounds: int = 5) -> list[dict[str, Any]]:
    """10 million bids against one row-wise sort of the same tensor."""
    job = order(64, 1085, 6)  # 64 rows x 1085 tokens x 144 agents = 10.0 million
    bid_BLN = job[0]
    rows_BNL = bid_BLN.transpose(1, 2).contiguous()
    candidates: dict[str, Callable[[], object]] = {
        "torch.sort, rows of tokens": lambda: torch.sort(rows_BNL, dim=-1),
        "torch.sort, rows of agents": lambda: torch.sort(bid_BLN, dim=-1),
        "torch.sort, rows of a market": lambda: torch.sort(bid_BLN.flatten(1), dim=-1),
    }
    for name, mechanism in mechanisms():
        candidates[name] = clearer(mechanism, job)
    readings = interleaved(candidates, rounds=rounds, warm_up=1)
    base = "torch.sort, rows of tokens"
    return [
        {
            "job": f"{bid_BLN.numel():,} bids",
            "candidate": name,
            "median_ms": round(statistics.median(times), 1),
            "ratio": round(median_ratio(readings, name, base), 3),
            "to": base,
        }
        for name, times in readings.items()
    ]


def rows() -> list[dict[str, Any]]:
    """Both tables: what ``agent-economy bench clearing`` prints."""
    return against_forward() + against_sort()


def main() -> None:
    """Measure and commit to ``benchmarks/results``: rows, machine, date, command."""
    from agent_economy.runs.manifest import environment, now

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "clearing.json")
    out = parser.parse_args().out
    result = {
        "command": "python -m benchmarks.clearing",
        "date": now(),
        **environment(),
        "threads": torch.get_num_threads(),
        "rows": rows(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    for row in result["rows"]:
        print(f"{row['job']:28} {row['candidate']:40} {row['median_ms']:10} {row['ratio']:8}")


if __name__ == "__main__":
    main()
