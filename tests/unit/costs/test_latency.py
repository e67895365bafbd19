"""Fitted latencies give back the machine they were read from; milliseconds become FLOPs."""

from __future__ import annotations

import pytest
import torch

from agent_economy.costs.latency import (
    KINDS,
    Kind,
    LatencyTariff,
    Line,
    Reading,
    as_rows,
    from_rows,
)
from agent_economy.costs.tariff import LayerShape
from agent_economy.errors import EconomyError
from agent_economy.rivals.allowance import Allowance

#: four heads over two units, blocks of 16, 16 and 8
SHAPE = LayerShape(32, 4, 2, 8, 40, 2, 16, causal=False)
MACHINE: dict[Kind, Line] = {
    "head": Line(0.01, 2e-4, 3e-6),
    "keys": Line(0.005, 1e-4, 0.0),
    "block": Line(0.02, 5e-4, 0.0),
    "rest": Line(0.03, 4e-5, 0.0),
}
SIZES: dict[Kind, int] = {"head": 8, "keys": 8, "block": 16, "rest": 32}


def readings(wobble: float = 0.0) -> list[Reading]:
    generator = torch.Generator().manual_seed(0)
    return [
        Reading(
            kind, SIZES[kind], 32, tokens, context, "cpu",
            MACHINE[kind].ms(tokens, context)
            * (1 + wobble * (2 * float(torch.rand(1, generator=generator)) - 1)),
        )
        for kind in KINDS
        for tokens in (16, 128, 1024)
        for context in ((16, 256) if kind == "head" else (0,))
    ]  # fmt: skip


def test_a_noiseless_table_gives_back_the_machine() -> None:
    fitted = LatencyTariff.fit(readings(), SHAPE)
    for kind in KINDS:
        found, line = fitted.lines[kind], MACHINE[kind]
        assert found.call_ms == pytest.approx(line.call_ms, rel=1e-6)
        assert found.token_ms == pytest.approx(line.token_ms, rel=1e-6)
        assert found.pair_ms == pytest.approx(line.pair_ms, abs=1e-12)


def test_a_noisy_one_comes_close_and_nothing_is_negative() -> None:
    fitted = LatencyTariff.fit(readings(0.1), SHAPE)
    assert fitted.dense_ms(SHAPE, 3, 4, 64) == pytest.approx(
        LatencyTariff(MACHINE, "cpu").dense_ms(SHAPE, 3, 4, 64), rel=0.1
    )
    for line in fitted.lines.values():
        assert min(line.call_ms, line.token_ms, line.pair_ms) >= 0


def test_a_plan_s_latency_is_its_agents() -> None:
    machine = LatencyTariff(MACHINE, "cpu")
    plan_YN = torch.zeros(2, SHAPE.agents, dtype=torch.bool)
    plan_YN[0, [0, 1, 6]] = True  # two heads of one unit, the block of 8
    tokens, context = 5 * 20, 20
    expected = (
        2 * (0.01 + 2e-4 * tokens + 3e-6 * tokens * context)
        + 0.005 + 1e-4 * tokens
        + 0.5 * (0.02 + 5e-4 * tokens)
        + 2 * (0.03 + 4e-5 * tokens)
    )  # fmt: skip
    assert machine.plan_ms(SHAPE, plan_YN, 5, 20) == pytest.approx(expected)


def test_a_budget_in_milliseconds_is_a_share_of_the_flops() -> None:
    machine = LatencyTariff(MACHINE, "cpu")
    dense, rest = machine.dense_ms(SHAPE, 3, 4, 16), 3 * (0.03 + 4e-5 * 64)
    at = lambda ms: machine.budget_fraction(ms, SHAPE, 3, 4, 16)  # noqa: E731
    assert at(dense) == at(9 * dense) == 1.0
    assert at(rest) == pytest.approx(0.0)
    assert at((dense + rest) / 2) == pytest.approx(0.5)
    with pytest.raises(EconomyError, match=r"give at least that, up to"):
        at(rest / 2)
    # and a plan of half of all agents takes half of either
    plan_YN = torch.zeros(2, SHAPE.agents, dtype=torch.bool)
    plan_YN[0] = True
    allowance = Allowance.of(SHAPE, 2, 1.0, 16, shortest=16)
    share = int(allowance.spend_flops_R(plan_YN)[0]) / int(
        allowance.spend_flops_R(torch.ones_like(plan_YN))[0]
    )
    ms = machine.plan_ms(SHAPE, plan_YN, 4, 16)
    assert share == machine.budget_fraction(ms, SHAPE, 2, 4, 16) == pytest.approx(0.5)


def test_tables_travel_as_rows_and_what_lacks_is_said() -> None:
    table = readings()
    assert from_rows([{**row, "median_ms": 1} for row in as_rows(table)]) == table
    with pytest.raises(EconomyError, match="no column 'tokens'"):
        from_rows([{"kind": "head", "size": 8, "hidden": 32}])
    with pytest.raises(EconomyError, match="on cuda; measure them"):
        LatencyTariff.fit(table, SHAPE, "cuda")
    with pytest.raises(EconomyError, match="'block' agents"):
        LatencyTariff.fit([each for each in table if each.kind != "block"], SHAPE)
