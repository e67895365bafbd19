"""Tables, verdicts and the figure are made from the result, and the committed ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_economy.errors import EconomyError
from benchmarks import clearing, tables
from benchmarks.forward import DENSE
from benchmarks.row import row
from benchmarks.scaling import SORTS

SIZES = (10_080, 100_224, 999_936, 9_999_360)


def result() -> dict[str, Any]:
    """Numbers that are easy to check by eye."""
    rows = [row("forward", DENSE, 147_456, [100.0], ratio=1.0, to=DENSE)]
    for name, joint, six in (
        ("vcg/token", 0.02, 0.05),
        ("uniform/sequence", 0.01, 0.02),
        ("fisher_market/sequence", 0.09, 0.11),
        ("sparse_softmax/token", 0.101, 0.09),
    ):
        for form, ratio in ((", joint", joint), (", six layers", six)):
            rows.append(row("forward", name + form, 147_456, [100 * ratio], ratio=ratio, to=DENSE))
    for name, nanoseconds in (
        (SORTS[0], (20, 20, 25, 30)),
        ("vcg/token", (390, 100, 110, 120)),
        ("uniform/sequence", (50, 8, 8, 10)),
        ("fisher_market/sequence", (900, 800, 850, 1000)),
    ):
        for bids, each in zip(SIZES, nanoseconds, strict=True):
            peak = None if name in SORTS else bids * 100 / 2**20
            times = [each * bids / 1e6]
            rows.append(row("scale", name, bids, times, ratio=1.5, to=SORTS[0], peak_mib=peak))
    rows.append(
        row("solver", "HiGHS", 10_080, [900.0], ratio=450, to="uniform_price/sequence",
            difference=-6.2e-5)
    )  # fmt: skip
    return {
        "command": "python -m benchmarks.clearing",
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"torch": "2", "numpy": "2", "scipy": "1"},
        "git_commit": "0123456789",
        "machine": {"cpu": "Abacus", "cores": 2},
        "threads": 1,
        "rows": rows,
    }


def test_targets_are_3_percent_10_for_iterative_ones_and_a_factor_of_4() -> None:
    met = {
        (each["candidate"], each["target"].startswith("time")): each["met"]
        for each in tables.verdicts(result()["rows"])
    }
    assert met == {
        ("vcg/token, joint", False): True,
        ("vcg/token, six layers", False): False,
        ("uniform/sequence, joint", False): True,
        ("uniform/sequence, six layers", False): True,
        ("fisher_market/sequence, joint", False): True,
        ("fisher_market/sequence, six layers", False): False,
        ("sparse_softmax/token, joint", False): False,
        ("sparse_softmax/token, six layers", False): True,
        ("vcg/token", True): True,
        ("uniform/sequence", True): False,  # 50 / 8
        ("fisher_market/sequence", True): True,
    }


def test_the_tables_say_what_the_rows_say() -> None:
    text = tables.markdown(result())
    assert "Abacus, 2 cores, 1 thread, " in text and "commit `0123456`" in text
    assert "| `vcg/token` | 2.0% (2 ms, 2 to 2) | 5.0% (5 ms, 5 to 5) | 3% | jointly |" in text
    assert "| 10% | in six |" in text  # sparse softmax
    assert "| `uniform/sequence` | 50 | 8 | 8 | 10 | 6.2 | no | 100 | 1.5 |" in text
    assert f"| {SORTS[0]} | 20 | 20 | 25 | 30 | 1.5 |  |  | 1.5 |" in text
    assert "| 10,080 | HiGHS | 0.90 s | `uniform_price/sequence` | 450 | -6.2e-05 |" in text
    assert "Met by 5 of 8" in text and "Met by 2 of 3." in text


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    document = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    once = tables.replaced(document, "new")
    assert once == f"before\n{tables.BEGIN}\nnew\n{tables.END}\nafter\n"
    assert tables.replaced(once, "new") == once
    with pytest.raises(EconomyError, match="no place for the tables"):
        tables.replaced("a document without marks", "new")


def test_a_result_is_drawn_as_it_is(tmp_path: Path) -> None:
    readme, figure = tmp_path / "README.md", tmp_path / "clearing.png"
    readme.write_text(f"# Benchmarks\n{tables.BEGIN}\n{tables.END}\n", "utf-8")
    clearing.draw(result(), readme, figure)
    assert tables.markdown(result()) in readme.read_text("utf-8")
    first = figure.read_bytes()
    assert first.startswith(b"\x89PNG")
    clearing.draw(result(), readme, figure)
    assert figure.read_bytes() == first


def test_the_committed_tables_are_those_of_the_committed_result() -> None:
    committed = json.loads(clearing.RESULT.read_text("utf-8"))
    assert tables.markdown(committed) in clearing.README.read_text("utf-8")
