"""What a frontier came to is written down from its complete cells alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from frontiers import PARTS, make_cell

from agent_economy.errors import EconomyError
from agent_economy.training.frontier.tables import collect
from benchmarks import frontiers
from benchmarks.frontiers import markdown, measured

THEIRS = {"system": "Linux", "cpu": "ANOTHER CPU", "cores": 64, "threads": 7}


def made(folder: Path, method: str, budget: float, seed: int, **record: Any) -> None:
    path = make_cell(folder, method, budget, seed, attention=False) / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **record}))


def test_a_running_sweep_is_written_down_as_its_cells_say(tmp_path: Path) -> None:
    tmp_path = tmp_path / "frontier-stsb"
    about = {"machine": THEIRS, "versions": {"torch": "9.9"}}
    made(tmp_path, "market", 0.25, 0, git_commit="c1", ended="2025-01-02T03:04:05+00:00", **about)
    made(tmp_path, "kwon", 0.25, 0, git_commit="c0-dirty", ended="2025-01-04T00:00:00", **about)
    # What a training writes first: neither task nor metric nor scores, and it sorts before others.
    running = tmp_path / "cells" / "dense-1-0"
    running.mkdir()
    begun = {"status": "running", "settings": {}, "git_commit": "c9", "machine": {"cpu": "no"}}
    (running / "train.json").write_text(json.dumps(begun))
    result = measured(tmp_path)
    assert result["task"] == "stsb" and result["metric"] == "pearson_spearman"
    assert result["commits"] == ["c0-dirty", "c1"]
    assert result["dates"] == ["2025-01-02", "2025-01-04"]
    assert result["machines"] == [THEIRS] and result["versions"] == [{"torch": "9.9"}]
    found = {(each["part"], each["method"]): each for each in result["cells"]}
    assert set(found) == {(part, method) for part in PARTS for method in ("market", "kwon")}
    assert found["development", "market"]["git_commit"] == "c1"
    record = json.loads((tmp_path / "cells" / "market-0.25-0" / "train.json").read_text())
    scores = {part: record["parts"][part]["score"] for part in PARTS}
    assert {part: found[part, "market"]["score"] for part in PARTS} == pytest.approx(scores)
    assert json.loads(json.dumps(result)) == result
    text = markdown(result)
    assert "64 cores of an ANOTHER CPU, 2025-01-02 to 2025-01-04;" in text
    for part, section in zip(PARTS, text.split("Part: ")[1:], strict=True):
        assert section.startswith(f"{part}.")
        assert f"\n| market | 0.25 | {100 * scores[part]:.1f} |" in section
        assert section.count("\n| kwon | 0.25 |") == 2  # its score, and its verdict


def test_a_frontier_is_written_down_under_its_own_name(tmp_path: Path) -> None:
    made(tmp_path / "frontier-stsb_unseen", "market", 0.25, 0)
    result = measured(tmp_path / "frontier-stsb_unseen")
    assert result["name"] == "stsb_unseen" and result["task"] == "stsb"
    given = "-c benchmarks/frontier/stsb_unseen.toml -o runs/frontier-stsb_unseen"
    assert result["command"] == f"agent-economy train --frontier {given}"
    made(tmp_path / "try3", "market", 0.25, 0)
    with pytest.raises(EconomyError, match="named after no frontier"):
        measured(tmp_path / "try3")


def test_what_has_no_place_in_the_readme_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "frontier-stsb", "market", 0.25, 0)
    readme = tmp_path / "Readme.md"
    readme.write_text("no marks")
    monkeypatch.setattr(frontiers, "README", readme)
    monkeypatch.setattr(frontiers, "RESULTS", tmp_path)
    with pytest.raises(EconomyError, match="no place for the tables"):
        frontiers.main([str(tmp_path / "frontier-stsb")])
    assert not list(tmp_path.glob("*.json")) and readme.read_text() == "no marks"
    readme.write_text("<!-- stsb -->\n<!-- end of stsb -->\n")
    frontiers.main([str(tmp_path / "frontier-stsb")])
    (result,) = tmp_path.glob("*.json")
    assert json.loads(result.read_text())["name"] == "stsb"
    assert "| market | 0.25 |" in readme.read_text()


def test_every_kept_frontier_has_a_place_in_the_readme() -> None:
    kept = sorted((frontiers.HERE / "frontier").glob("*.toml"))
    assert kept
    text = frontiers.README.read_text("utf-8")
    for path in kept:
        assert f"<!-- {path.stem} -->" in text and f"<!-- end of {path.stem} -->" in text, path


def test_a_sweep_without_a_complete_cell_says_so(tmp_path: Path) -> None:
    (tmp_path / "cells" / "market-0.25-0").mkdir(parents=True)
    with pytest.raises(EconomyError, match="none of the 1 cells"):
        measured(tmp_path)


def test_areas_and_attention_stand_beside_the_scores(tmp_path: Path) -> None:
    tmp_path = tmp_path / "frontier-stsb"
    for method, budget in (("market", 0.4), ("market", 0.25), ("kwon", 0.4), ("kwon", 0.25)):
        make_cell(tmp_path, method, budget, 0)
    make_cell(tmp_path, "dense", 1, 0)
    result = measured(tmp_path)
    tables = collect(tmp_path)
    areas = tables["hypervolume"].query("seed == -1 and part == 'development'")
    kwon = areas.set_index("method").loc["kwon"]
    (section,) = (each for each in markdown(result).split("Part: ") if each.startswith("devel"))
    gap = " to ".join(f"{kwon[f'difference_{end}']:+.3f}" for end in ("low", "high"))
    assert f"| kwon | {kwon['difference']:+.3f} ({gap}) | 0.4, 0.25 | {kwon['note']} |" in section
    assert "one seed" in kwon["note"]
    spread = tables["interpretability"].query("layer == -1 and part == 'development'")
    kwon = spread.query("method == 'kwon' and budget_fraction == 0.25").set_index("measure")
    for measure, seeds in (("entropy_nats", ""), ("gini", " 1 |")):
        low, high = (kwon.loc[measure, f"difference_{end}"] for end in ("low", "high"))
        assert f"({low:+.3f} to {high:+.3f}) |{seeds}" in section
    assert "| dense | 1 | +" not in section  # it is what the others are compared with
