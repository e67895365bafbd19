"""Fitted latencies give back the machine they were read from; milliseconds become FLOPs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_economy.costs.latency import (
    KINDS,
    Kind,
    LatencyTariff,
    Line,
    Reading,
)
from agent_economy.costs.latency_table import as_rows, from_rows, read_table, write_table
from agent_economy.costs.rates import PS_PER_MS
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.rivals.allowance import Allowance

#: four heads over two units, blocks of 16, 16 and 8
SHAPE = LayerShape(32, 4, 2, 8, 40, 2, 16, causal=False)
MACHINE: dict[Kind, Line] = {
    "head": Line(0.01, 2e-4, 3e-6),
    "keys": Line(0.005, 1e-4, 0.0),
    "block": Line(0.02, 5e-4, 0.0),
    "rest": Line(0.03, 4e-5, 0.0),
    "clearing": Line(0.002, 1e-5, 0.0),
}
SIZES: dict[Kind, int] = {"head": 8, "keys": 8, "block": 16, "rest": 32, "clearing": 32}


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
    with pytest.raises(EconomyError, match=r"give more than that, up to"):
        at(rest / 2)
    # and a plan of half of all agents takes half of either
    plan_YN = torch.zeros(2, SHAPE.agents, dtype=torch.bool)
    plan_YN[0] = True
    allowance = Allowance.of(SHAPE, 2, 1.0, 16, shortest=16)
    share = int(allowance.spend_flops_R(plan_YN)[0]) / int(
        allowance.spend_flops_R(torch.ones_like(plan_YN))[0]
    )
    ms = machine.plan_ms(SHAPE, plan_YN, 4, 16)
    assert share == 0.5 == pytest.approx(machine.budget_fraction(ms, SHAPE, 2, 4, 16), abs=1e-5)


def test_rates_charge_what_a_plan_takes() -> None:
    """Token by token in whole picoseconds, against the lines summed agent by agent."""
    machine, rows, length = LatencyTariff(MACHINE, "cpu"), 3, 12
    tokens = rows * length
    shape = replace(SHAPE, rates=machine.rates(SHAPE, tokens))
    tariff = layer_tariff(shape, torch.ones(rows, length, dtype=torch.bool))
    served_N = torch.tensor([0, 1, 1, 0, 1, 0, 1], dtype=torch.bool)
    charged = int((tariff.served_flops_BN * served_N).sum()) + int(tariff.setup_flops_BU.sum())
    expected = sum(MACHINE["head"].ms(tokens, length) for _ in range(2))
    expected += sum(MACHINE["keys"].ms(tokens, 0) for _ in range(2))
    expected += MACHINE["block"].ms(tokens, 0) * (16 + 8) / 16
    assert charged / PS_PER_MS == pytest.approx(expected, rel=1e-5)
    plan_YN = served_N[None]
    rest = MACHINE["rest"].ms(tokens, 0)
    assert machine.plan_ms(SHAPE, plan_YN, rows, length) == pytest.approx(expected + rest)
    # and in FLOPs nothing has changed
    flops = layer_tariff(SHAPE, torch.ones(rows, length, dtype=torch.bool))
    assert int(flops.token_flops_BNL[0, 4, 0]) == 4 * 32 * 16
    counted = layer_tariff(shape, torch.ones(rows, length, dtype=torch.bool), computed=True)
    assert torch.equal(counted.token_flops_BNL, flops.token_flops_BNL)


def test_a_pooled_last_layer_is_charged_for_one_token_a_row() -> None:
    machine, rows, length = LatencyTariff(MACHINE, "cpu"), 3, 12
    tokens, head, block = rows * length, MACHINE["head"], MACHINE["block"]
    layer = machine.agents_ms(SHAPE, 1, rows, length)
    last = sum(4 * (head.spread_ms(tokens) + head.pair_ms * length) for _ in range(rows))
    last += rows * block.spread_ms(tokens) * 2.5 + 2 * MACHINE["keys"].ms(tokens, 0)
    found = machine.agents_ms(SHAPE, 2, rows, length, pooled=True)
    assert found == pytest.approx(layer + last, rel=1e-5)


def test_blocks_that_were_not_measured_are_scaled() -> None:
    shape = replace(SHAPE, block_size=4)
    fitted = LatencyTariff.fit(readings(), shape)
    assert fitted.lines["block"].token_ms == pytest.approx(MACHINE["block"].token_ms / 4)
    whole = LatencyTariff.fit(readings(), SHAPE).dense_ms(SHAPE, 2, 3, 12)
    assert fitted.dense_ms(shape, 2, 3, 12) == pytest.approx(whole, rel=1e-5)


def test_a_table_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "latency.json"
    with pytest.raises(EconomyError, match="measure some with `agent-economy bench latency`"):
        read_table(path)
    write_table(path, as_rows(readings()), {"date": "2026-11-23", "threads": 2})
    table = read_table(path)
    assert from_rows(table["rows"]) == readings() and table["threads"] == 2
    for text in ("{", "[]", '{"rows": []}'):
        path.write_text(text)
        with pytest.raises(EconomyError, match="is no table of latencies; make one"):
            read_table(path)


@pytest.mark.parametrize(
    "row",
    [1, None, {"ms": "fast"}, {"ms": float("nan")}, {"kind": "wing"}, {"device": 7}, {"size": []}],
)
def test_rows_that_are_no_readings_are_one_line(row: Any) -> None:
    good = as_rows(readings())
    bad = {**good[0], **row} if isinstance(row, dict) else row
    with pytest.raises(EconomyError, match=r"a row that is no reading.*bench latency`$"):
        from_rows([*good, bad])


def test_tables_travel_as_rows_and_what_lacks_is_said() -> None:
    table = readings()
    assert from_rows([{**row, "median_ms": 1} for row in as_rows(table)]) == table
    with pytest.raises(EconomyError, match="no column 'tokens'"):
        from_rows([{"kind": "head", "size": 8, "hidden": 32}])
    with pytest.raises(EconomyError, match="on cuda; measure them on that machine with"):
        LatencyTariff.fit(table, SHAPE, "cuda")
    with pytest.raises(EconomyError, match="'block' agents"):
        LatencyTariff.fit([each for each in table if each.kind != "block"], SHAPE)
