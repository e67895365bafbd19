"""The executors' bench runs end to end in its quick form, and its bounds are counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, LAYERS, N_HEADS, tiny_model

from agent_economy.adapters import adapter_for
from agent_economy.costs.latency import LatencyTariff
from agent_economy.costs.latency_table import from_rows, read_table
from agent_economy.errors import EconomyError
from benchmarks import executor_cases, executor_tables, executors, latency
from benchmarks.executor_cases import COMPACTED, DENSE, MARKET, MASKED, ROUTED
from benchmarks.shapes import Batch


def row(executor: str, budget: float, **changes: Any) -> dict[str, Any]:
    return {
        "model": "minilm", "rows": 32, "length": 64, "device": "cpu", "executor": executor,
        "budget": budget, "path": None, "threads": 1, "median_ms": 10.0, "low_ms": 9.0,
        "high_ms": 11.0, "readings": 15, "speedup": 3.8, "speedup_low": 3.7, "speedup_high": 3.9,
        "bound": 4.0, "share_of_bound": 0.95, "share_of_one_over_budget": 0.95,
        "difference": 1e-7, "peak_mib": 5.0, "tokens_per_s": None,
        "date": "2026-01-02", "git_commit": "0123456789", **changes,
    }  # fmt: skip


def test_bounds_are_counted_by_hand() -> None:
    adapter, batch = adapter_for(tiny_model("bert"), BLOCK_SIZE), Batch(2, 5)
    # 32 x 8 a head's slice of a projection; two of them and the scores a token, two more a row
    head, keys, neuron = 4 * 32 * 8 + 4 * 8 * 5, 4 * 32 * 8, 4 * 32
    dense = 10 * (4 * (head + keys) + 40 * neuron) * LAYERS
    gates = [torch.zeros(2, 5, AGENTS) for _ in range(LAYERS)]
    gates[0][1, 3, 0] = 1.0
    gates[2][0, :2, N_HEADS + 2] = 1.0  # the block of 8 neurons
    spent = head + 5 * keys + 2 * 8 * neuron
    assert executor_cases.tariff_bound(adapter, batch, gates) == pytest.approx(dense / spent)
    plan_YN, bound = executor_cases.random_plan(adapter, 5, 0.5)
    sizes = torch.tensor([16, 16, 8])
    planned = int(plan_YN[:, :N_HEADS].sum()) * (head + keys)
    planned += int((plan_YN[:, N_HEADS:] * sizes).sum()) * neuron
    assert bound == pytest.approx(dense / (10 * planned)) and 2.0 <= bound < 2.2


def test_the_quick_form_times_every_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "has_onnx", lambda: False)  # exporting takes its time
    part = tmp_path / "part.json"
    found = executors.rows(quick=True, part=part)
    encoder = [each for each in found if each["tokens_per_s"] is None]
    decoder = [each for each in found if each["tokens_per_s"] is not None]
    for own, names in (
        (encoder, {DENSE, MASKED, ROUTED, MARKET, COMPACTED}),
        (decoder, {DENSE, MASKED, ROUTED, COMPACTED}),
    ):
        assert {each["executor"] for each in own} >= names
        for each in own:
            assert 0 < each["low_ms"] <= each["median_ms"] <= each["high_ms"]
            assert each["bound"] >= 1 and list(each) == list(found[0])
            assert each["difference"] is None or each["difference"] < 1e-4
    # what was measured is not measured again
    kept = json.loads(part.read_text("utf-8"))
    kept["quick encoder"][0]["median_ms"] = 42.0
    part.write_text(json.dumps(kept), "utf-8")
    assert executors.rows(quick=True, part=part)[0]["median_ms"] == 42.0


def test_some_may_be_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(DENSE, 1.0), row(DENSE, 1.0, model="mpnet"), row(DENSE, 1.0, tokens_per_s=2.0)]
    monkeypatch.setattr(executors, "RESULT", tmp_path / "executors.json")
    with pytest.raises(EconomyError, match="not there yet"):
        executors._kept("minilm")
    executors.RESULT.write_text(json.dumps({"rows": rows}))
    assert executors._kept("minilm") == {"mpnet, 32 x 64": rows[1:2], "decoding": rows[2:]}
    with pytest.raises(EconomyError, match="choose among minilm, 32 x 64"):
        executors._kept("gpt")


def test_targets_and_what_missed_them() -> None:
    rows = [
        row(DENSE, 1.0, speedup=1.0, bound=1.0),
        row(COMPACTED, 0.25, share_of_bound=0.96, speedup=3.6),
        row(ROUTED, 0.5, share_of_bound=0.74),
        row(ROUTED, 0.7, share_of_bound=0.1),
        row(MARKET, 0.7, speedup=0.99, path="masked"),
        row(MARKET, 0.7, rows=1, length=16, speedup=0.7, path="masked"),  # fell back by itself
        row(MARKET, 0.7, rows=1, length=16, speedup=0.7, path="routed"),
        row(COMPACTED, 0.25, rows=1, length=16, speedup=2.9),
        row(COMPACTED, 0.25, device="cuda", share_of_bound=0.71),
        row(COMPACTED, 0.25, tokens_per_s=9.0),
    ]
    met = [
        (each["executor"], each["batch"], each["met"]) for each in executor_tables.verdicts(rows)
    ]
    assert met == [
        (COMPACTED, "32 x 64", True),
        (COMPACTED, "32 x 64", False),
        (ROUTED, "32 x 64", False),
        (MARKET, "32 x 64", True),
        (MARKET, "1 x 16", False),
        (COMPACTED, "1 x 16", True),
        (COMPACTED, "32 x 64", True),
    ]


def test_tables_say_what_was_measured_with_what(tmp_path: Path) -> None:
    result = {
        "command": "python -m benchmarks.executors", "versions": {"torch": "2"},
        "machine": {"cpu": "Abacus", "cores": 2}, "threads": 1,
        "rows": [
            row(DENSE, 1.0, speedup=1.0, bound=1.0),
            row(MARKET, 0.7, speedup=0.9, path="masked"),
        ],
    }  # fmt: skip
    text = executor_tables.markdown(result)
    assert "Abacus, 2 cores, 1 thread, torch 2" in text and "2026-01-02, commit `0123456`" in text
    assert "routed, market (masked)" in text
    assert "Met: 0 of 1" in text and "(0.90, target not slower than dense)" in text
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{executor_tables.BEGIN}\nold\n{executor_tables.END}\nafter\n")
    executors.draw(result, readme)
    drawn = readme.read_text("utf-8")
    assert text in drawn and "old" not in drawn and drawn.startswith("before")


def test_latencies_are_read_in_the_quick_form_and_kept(tmp_path: Path) -> None:
    found = latency.measured(latency.SHAPES, quick=True)
    path = tmp_path / "latency.json"
    latency.write(path, found, "a command")
    table = read_table(path)
    for shape in latency.SHAPES.values():
        fitted = LatencyTariff.fit(from_rows(table["rows"]), shape)
        assert 0 < fitted.dense_ms(shape, 6, 2, 16) < 600_000
    # other layers join them, the same ones take their places
    other = [{**row, "hidden": 7} for row in found[:5]]
    latency.write(path, other, "another")
    latency.write(path, [{**row, "ms": 1.0} for row in other], "another")
    rows = read_table(path)["rows"]
    assert rows[: len(found)] == found and [row["ms"] for row in rows[len(found) :]] == [1.0] * 5
    table["threads"] += 1
    path.write_text(json.dumps(table))
    with pytest.raises(EconomyError, match="set OMP_NUM_THREADS=2"):
        latency.write(path, other, "another")


def test_a_committed_result_is_the_one_in_the_readme() -> None:
    if not executors.RESULT.is_file():
        pytest.skip("not measured yet")
    result = json.loads(executors.RESULT.read_text("utf-8"))
    assert executor_tables.markdown(result) in executors.README.read_text("utf-8")
