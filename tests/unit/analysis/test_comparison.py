"""Runs compared: pairs against sums by hand from the tables, settings, pages, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from analysis.comparison import compare, settings
from analysis.pairing import compared, layout
from analysis.report import write_report

ARMS, SEEDS, STEPS, ROWS = ("spot", "posted"), (0, 1, 2), 6, 2
KEYS = ["arm", "seed", "row", "step"]


def stream(seed: int, *, shift: dict[str, float], noise: float = 0.0) -> pd.DataFrame:
    """A table as a laboratory study leaves it: wide, one row per step and row of text."""
    texts, own = np.random.default_rng(99), np.random.default_rng(seed)
    rows = []
    for arm in ARMS:
        for each in SEEDS:
            for step in range(STEPS):
                for row in range(ROWS):
                    hard = texts.normal()
                    loss = 0.3 + 0.1 * hard + shift[arm] + noise * own.normal()
                    rows.append((arm, each, row, loss, step, "late", 7, 4500.0 + 10 * hard))
    columns = ["arm", "seed", "row", "loss", "step", "phase", "trading_agents", "price_per_gflop"]
    return pd.DataFrame(rows, columns=columns)


def lab_run(
    folder: Path, make: SimpleNamespace, table: pd.DataFrame, *, supply: float, **manifest: object
) -> Path:
    arms = "".join(f'\n[[arms]]\nname = "{arm}"\nmechanism = "uniform_price"\n' for arm in ARMS)
    make.make_run(folder, {"stream_steps": table}, f"supply = {supply}\nbatch_size = 4\n{arms}")
    said = json.loads((folder / "manifest.json").read_text())
    said |= {"scenario": "stream", **manifest}
    (folder / "manifest.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def pair(tmp_path: Path, synthetic: SimpleNamespace) -> tuple[Path, Path]:
    one = stream(1, shift={"spot": 0.0, "posted": 0.0})
    other = stream(2, shift={"spot": 0.25, "posted": 0.0}, noise=0.02)
    return (
        lab_run(tmp_path / "plenty", synthetic, one, supply=0.8),
        lab_run(tmp_path / "short", synthetic, other, supply=0.5),
    )


def test_keys_and_measures_are_told_apart() -> None:
    found = layout(stream(0, shift={"spot": 0.0, "posted": 0.0}))
    assert found is not None
    assert (found.cell, found.groups, found.replicate) == (["arm"], ["arm"], "step")
    assert found.values == ["loss", "trading_agents", "price_per_gflop"]
    cell = {"mechanism": "m", "budget_fraction": [0.5, 0.5], "seed": 0}
    measured = {"metric": ["utility", "spend"], "value": [0.9, 0.4], "unit": "1"}
    tidy = pd.DataFrame({**cell, "step": 0, **measured})
    found = layout(tidy)
    assert found is not None and found.name == "metric" and found.values == ["value"]
    assert found.cell == ["mechanism", "budget_fraction"]
    assert layout(tidy.drop(columns="seed")) is None
    assert layout(pd.concat([tidy, tidy])) is None  # nothing tells the rows apart


def test_paired_differences_are_those_of_the_tables(pair: tuple[Path, Path]) -> None:
    one, other = (pd.read_parquet(path / "stream_steps.parquet") for path in pair)
    found = compared(one, other, same_texts=True).set_index(["group", "measure"])
    merged = one.merge(other, on=KEYS)
    for arm in ARMS:
        by_hand = merged[merged.arm == arm]
        difference = (by_hand.loss_y - by_hand.loss_x).mean()
        row = found.loc[(arm, "loss")]
        assert row.difference_mean == pytest.approx(difference)
        assert row.one_mean == pytest.approx(by_hand.loss_x.mean())
        assert row.difference_low < difference < row.difference_high
        assert row.pairs == len(SEEDS) * STEPS
    # Pairing takes the texts' own spread out: a shift of 0.25 is clear, and none is none.
    spot, posted = found.loc[("spot", "loss")], found.loc[("posted", "loss")]
    assert spot.difference_low > 0.2 and spot.difference_high < 0.3
    assert posted.difference_low < 0 < posted.difference_high
    apart = compared(one, other, same_texts=False).set_index(["group", "measure"])
    wide, tight = apart.loc[("spot", "loss")], spot
    assert wide.pairs == 0 and wide.difference_mean == pytest.approx(tight.difference_mean)
    width = wide.difference_high - wide.difference_low
    assert width > 2 * (tight.difference_high - tight.difference_low)


def test_the_page_says_what_was_set_and_measured(pair: tuple[Path, Path]) -> None:
    page = write_report(list(pair))
    text = page.read_text()
    told = re.search(r"<td class=\"l\">supply</td>(.*?)</tr>", text)
    assert told is not None and ">0.8<" in told[1] and ">0.5<" in told[1]
    assert ">batch_size<" not in text  # the same in both
    one, other = (pd.read_parquet(path / "stream_steps.parquet") for path in pair)
    spot = (other.loss - one.loss)[one.arm == "spot"].mean()
    cells = re.findall(r"<td class=\"l\">spot</td>(.*?)</tr>", text)
    assert any(f'class="win">{spot:.3f}' in row for row in cells)
    assert "In 1 of 2 compared values" in text and "pair by pair" in text
    assert "Equal in both, to the last digit: trading agents, price per gflop." in text
    frame = pd.read_csv(pair[0] / "figures" / "comparison.csv")
    at = frame[(frame.group == "spot") & (frame.measure == "loss")].iloc[0]
    assert at.difference_mean == pytest.approx(spot) and at.run == "short"
    assert write_report(list(pair)).read_text() == text
    assert not {"script", "link"} & set(re.findall(r"<(\w+)", text))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'id="([^"]+)"', text))


def test_other_texts_are_not_paired(
    pair: tuple[Path, Path], tmp_path: Path, synthetic: SimpleNamespace
) -> None:
    table = pd.read_parquet(pair[1] / "stream_steps.parquet")
    elsewhere = {"data_hashes": {"text": "other"}}
    third = lab_run(tmp_path / "elsewhere", synthetic, table, supply=0.8, **elsewhere)
    found = compare([Run(pair[0]), Run(pair[1]), Run(third)])
    assert [other.same_texts for other in found.others] == [True, False]
    assert (found.others[1].frame.pairs == 0).all()
    assert "nothing is paired" in write_report([pair[0], third]).read_text()
    table = table[table.arm == "spot"].assign(seed=lambda rows: rows.seed + 7)
    fourth = lab_run(tmp_path / "seeds", synthetic, table, supply=0.8)
    (other,) = compare([Run(pair[0]), Run(fourth)]).others
    assert (other.frame.pairs == 0).all() and set(other.frame.group) == {"spot"}
    assert other.only == ["stream_steps: only in the first run: posted"]


def test_other_scenarios_are_told_side_by_side(
    pair: tuple[Path, Path], tmp_path: Path, synthetic: SimpleNamespace
) -> None:
    table = stream(3, shift={"spot": 1.0, "posted": 1.0}).rename(columns={"arm": "rule"})
    folder = synthetic.make_run(tmp_path / "permits", {"permit_steps": table}, "supply = 0.8\n")
    (other,) = compare([Run(pair[0]), Run(folder)]).others
    assert other.frame.empty
    (loss,) = [row for row in other.overall if row["measure"] == "loss"]
    first = pd.read_parquet(pair[0] / "stream_steps.parquet").loss.mean()
    assert loss["one"]["mean"] == f"{first:.3f}"
    assert loss["other"]["mean"] == f"{table.loss.mean():.3f}"
    assert "share no cell" in write_report([pair[0], folder]).read_text()
    kept = pd.read_csv(pair[0] / "figures" / "comparison.csv").set_index("measure")
    assert kept.loc["loss", "one.mean"] == pytest.approx(first, abs=1e-3)


def test_figures_of_both_stand_next_to_each_other(
    synthetic: SimpleNamespace, tmp_path: Path
) -> None:
    cell = {"mechanism": "posted_price", "policy": "taylor", "scope": "sequence"}
    rows = [
        {**cell, "budget_fraction": budget, "seed": 0, "step": step, "metric": metric,
         "value": budget + 0.01 * step, "unit": "1"}
        for budget in (0.5, 0.8) for step in range(3) for metric in ("utility", "flops_fraction")
    ]  # fmt: skip
    chosen = pd.DataFrame(rows)
    one = synthetic.make_run(tmp_path / "a" / "run", {"metrics": chosen})
    other = synthetic.make_run(tmp_path / "b" / "run", {"metrics": chosen})
    text = write_report([one, other]).read_text()
    assert "Nothing: the configs are the same." in text
    assert "a/run" in text and "b/run" in text
    beside = text[text.index('id="beside-utility"') :]
    assert beside[: beside.index("</figure>")].count("<img") == 2
    assert 'id="run-1-utility"' in text
    # Each image stands on the page once.
    images = re.findall(r'src="(data:[^"]+)"', text)
    assert len(images) == 2 * len(set(images))  # the runs are equal, so are their figures


def test_settings_differ_by_key() -> None:
    one = {"model": "minilm", "arms": [{"name": "spot", "rate": 1}], "seeds": [0, 1], "x": {"y": 1}}
    other = {"model": "minilm", "arms": [{"name": "spot", "rate": 2}], "seeds": [0, 2]}
    assert [(s.key, s.values) for s in settings([one, other])] == [
        ("arms[spot].rate", ["1", "2"]),
        ("seeds", ["[0, 1]", "[0, 2]"]),
        ("x.y", ["1", "not set"]),
    ]


def test_bad_pairs_are_one_line(
    pair: tuple[Path, Path], tmp_path: Path, synthetic: SimpleNamespace
) -> None:
    strange = pd.DataFrame({"kind": ["a"], "seed": [0], "height_m": [1.0]})
    folder = synthetic.make_run(tmp_path / "strange", {"heights": strange})
    (tmp_path / "no-run").mkdir()
    for paths, message in (
        ([pair[0], folder], r"plenty \(stream\) and strange \(scarcity\) measured nothing in"),
        ([pair[0], pair[0]], "named twice"),
        ([pair[0], tmp_path / "no-run"], "holds no run"),
    ):
        with pytest.raises(EconomyError, match=message) as caught:
            write_report(paths)
        assert "\n" not in str(caught.value)
    assert not (pair[0] / "report.html").exists()
