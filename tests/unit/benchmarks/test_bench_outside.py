"""torch-pruning and this project cut the same agents, save the same FLOPs, say the same."""

from __future__ import annotations

import pytest
from models import FFN, LAYERS, N_HEADS, tiny_batch, tiny_model

from benchmarks.outside_check import check

pytest.importorskip("torch_pruning")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("heads", "neurons"), [(0.5, 0.4), (0.25, 0.7)])
def test_an_outside_pruner_agrees(heads: float, neurons: float) -> None:
    found = check(tiny_model("bert", "classify"), tiny_batch((11, 11)), heads, neurons)
    left_Y2 = [[int(each[:N_HEADS].sum()), int(each[N_HEADS:].sum())] for each in found.plan_YN]
    assert left_Y2 == [[round(N_HEADS * (1 - heads)), round(FFN * (1 - neurons))]] * LAYERS
    assert found.strangers == 0
    assert found.tariff_flops == found.counted_flops > 0
    assert found.linear_flops == found.their_flops > 0
    assert found.linear_flops < found.tariff_flops
    assert found.difference < 1e-5 < found.largest
