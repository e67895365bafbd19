"""Reading a clock: batches of the size that was asked for, and what a compiler makes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from agent_economy.compaction import shrink
from agent_economy.economy import Economy
from agent_economy.training.clock import Runner, compiled_runner, latency
from agent_economy.training.finetune import finetune
from agent_economy.training.parts import load_part
from agent_economy.training.score import founded
from agent_economy.training.settings import FinetuneSettings

ROWS = (1, 7, 64)


@pytest.fixture(scope="module")
def dense(
    tmp_path_factory: pytest.TempPathFactory, encoder: str, data: Path
) -> tuple[Economy, Any]:
    out = tmp_path_factory.mktemp("made") / "dense"
    finetune(FinetuneSettings(task="stsb", model=encoder, epochs=1), out, data_dir=data)
    part = load_part("stsb", "validation", data)
    economy, encode = founded(out, part, {})
    return economy, encode(part)


@pytest.mark.parametrize("batch_size", ROWS)
def test_batches_hold_as_many_rows_as_asked_for(
    dense: tuple[Economy, Any], batch_size: int
) -> None:
    economy, rows = dense
    seen: list[int] = []

    def run(batch: dict[str, Any]) -> None:
        seen.append(len(batch["input_ids"]))

    ms, ratio = latency(economy, Runner(run), rows, batch_size=batch_size)
    whole = min(batch_size, len(rows))
    # The last batch holds what is left.
    assert max(seen) == whole and set(seen) <= {whole, len(rows) % batch_size}
    assert 0 < ratio < 1 and ms > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_computes_the_same_on_batches_of_every_size(
    dense: tuple[Economy, Any],
) -> None:
    economy, rows = dense
    plan_YN = torch.ones(economy.population.layers, economy.adapter.shape.agents).bool()
    plan_YN[:, ::2] = False
    small = shrink(economy.adapter, plan_YN, first_only=True).eval()
    fast = compiled_runner(small)
    for chosen in ([0, 1, 2], [3, 4, 5, 6, 7]):
        batch = rows.batch(torch.tensor(chosen).numpy())[0]
        with torch.no_grad():
            fast.settle(batch)
            assert_close(fast.run(batch).logits, small(**batch).logits, atol=1e-5, rtol=1e-5)
