"""Run folders: resume, refusals, disks that fill up."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pytest
from counting import Config, Counting, Market, Session

from agent_economy.errors import EconomyError
from agent_economy.runs import files
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import Interrupted, execute
from agent_economy.runs.scenario import Log

CONFIG = Config()


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of every table but the clock readings."""
    return {p.name: p.read_bytes() for p in folder.glob("*.parquet") if p.stem != "timings"}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return execute(Counting(), CONFIG, tmp_path / "whole", resume=False)


def test_a_run_leaves_tables_manifest_and_log(whole: Path) -> None:
    run = Run(whole)
    assert run.tables == ["agents", "metrics", "prices", "timings"]
    prices = run.table("prices")
    assert list(prices)[:3] == ["mechanism", "budget_fraction", "seed"]
    assert len(prices) == 6 * 50
    # Cells of seed 1 returned integers, those of seed 0 reals: one column, one type.
    assert prices["layer"].dtype == "float64"
    assert list(run.table("agents")["agent"]) == ["head", "block", "head"]
    assert run.config == CONFIG.model_dump(mode="json")
    assert run.manifest["status"] == "complete"
    assert run.manifest["data_hashes"] == {"numbers": "abc"}
    assert run.manifest["seeds"] == {"seed": 0, "cells": [0, 1]}
    assert {"versions", "git_commit", "machine", "started", "ended"} <= set(run.manifest)
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["message"] for line in log] == ["opened", *["cell"] * 6, "complete"]
    assert {p.name for p in whole.iterdir()} == {
        *("config.toml", "manifest.json", "log.jsonl"),
        *("agents.parquet", "metrics.parquet", "prices.parquet", "timings.parquet"),
    }


def test_the_session_is_closed(tmp_path: Path) -> None:
    scenario = Counting()
    execute(scenario, CONFIG, tmp_path / "run", resume=False)
    assert scenario.session is not None and scenario.session.closed


def test_two_runs_of_one_seed_have_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    again = execute(Counting(), CONFIG, tmp_path / "again", resume=False)
    assert tables(whole) == tables(again)
    other = execute(Counting(), Config(seed=1), tmp_path / "other", resume=False)
    assert tables(whole)["prices.parquet"] != tables(other)["prices.parquet"]


@pytest.mark.parametrize("kill_before", [0, 1, 4, 5])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    whole: Path, tmp_path: Path, kill_before: int
) -> None:
    def interrupt(index: int) -> None:
        if index == kill_before:
            raise KeyboardInterrupt

    folder = tmp_path / "cut"
    with pytest.raises(Interrupted, match=f"-o {folder} --resume"):
        execute(Counting(interrupt), CONFIG, folder, resume=False)
    with pytest.raises(EconomyError, match="unfinished"):
        Run(folder)
    scenario = Counting()
    execute(scenario, CONFIG, folder, resume=True)
    assert scenario.session is not None and len(scenario.session.ran) == 6 - kill_before
    assert tables(folder) == tables(whole)
    assert not (folder / "parts").exists()
    assert len(Run(folder).manifest["resumed"]) == 1


def test_a_killed_process_resumes_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    program = (
        "import os, signal; from pathlib import Path\n"
        "from counting import Config, Counting\n"
        "from agent_economy.runs.runner import execute\n"
        "die = lambda index: os.kill(os.getpid(), signal.SIGKILL) if index == 3 else None\n"
        f"execute(Counting(die), Config(), Path({str(folder)!r}), resume=False)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    # What a kill in the middle of a write leaves behind.
    (folder / "parts" / "prices" / ".000003.parquet.99.tmp").write_bytes(b"half")
    (folder / "parts" / "prices" / "000003.parquet").write_bytes(b"rows without their marker")
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"time": "torn')
    execute(Counting(), CONFIG, folder, resume=True)
    assert tables(folder) == tables(whole)
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["message"] == "complete"


def test_a_kill_while_merging_resumes_to_the_same_bytes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "merge"
    write = files.atomic

    def fail_on_table(path: Path) -> AbstractContextManager[BinaryIO]:
        if path == folder / "prices.parquet":
            raise KeyboardInterrupt
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr("agent_economy.runs.store.atomic", fail_on_table)
        with pytest.raises(Interrupted):
            execute(Counting(), CONFIG, folder, resume=False)
    scenario = Counting()
    execute(scenario, CONFIG, folder, resume=True)
    assert scenario.session is not None and scenario.session.ran == []
    assert tables(folder) == tables(whole)


def test_a_full_disk_is_one_line_and_resumes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "full"
    fsync, calls = os.fsync, iter(range(1000))

    def full(handle: int) -> None:
        if next(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EconomyError, match=r"disk is full.*--resume") as caught:
            execute(Counting(), CONFIG, folder, resume=False)
    assert "\n" not in str(caught.value)
    assert not list(folder.rglob("*.tmp"))
    for part in folder.rglob("*.parquet"):
        pd.read_parquet(part)  # whatever is there is whole
    execute(Counting(), CONFIG, folder, resume=True)
    assert tables(folder) == tables(whole)


def test_a_complete_run_is_not_run_again(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    scenario = Counting()
    assert execute(scenario, CONFIG, whole, resume=True) == whole
    assert scenario.session is None
    assert "already complete" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


@pytest.mark.parametrize(
    ("config", "resume", "message"),
    [
        (CONFIG, False, "holds a finished run; choose another -o, or --resume"),
        (Config(repeats=3), False, "holds another run; choose another -o"),
        (Config(repeats=3), True, "cannot resume: .* with repeats = 2, not 3"),
        (Config(market=Market(rounds=9)), True, r"with market\.rounds = 3, not 9"),
    ],
)
def test_a_folder_that_holds_a_run_is_not_overwritten(
    whole: Path, config: Config, resume: bool, message: str
) -> None:
    before = tables(whole)
    with pytest.raises(EconomyError, match=message):
        execute(Counting(), config, whole, resume=resume)
    assert tables(whole) == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for resume in (False, True):
        with pytest.raises(EconomyError, match="other files; choose another -o"):
            execute(Counting(), CONFIG, tmp_path, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(EconomyError, match="is a file"):
        execute(Counting(), CONFIG, tmp_path / "thesis.tex", resume=False)


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    class BadModel(Counting):
        def open(self, config: Config, log: object) -> None:  # type: ignore[override]
            raise EconomyError("unknown model 'minlm'; did you mean 'minilm'?")

    def bad_bids(index: int) -> None:
        raise EconomyError("policy 'random' bid NaN")

    for scenario, said in ((BadModel(), "unknown model"), (Counting(bad_bids), "bid NaN")):
        with pytest.raises(EconomyError, match=said):
            execute(scenario, CONFIG, tmp_path / "runs" / "x", resume=False)
        assert not list(tmp_path.iterdir())


def test_resume_refuses_changed_data_and_changed_cells(tmp_path: Path) -> None:
    def interrupt(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    class OtherCells(Counting):
        def cells(self, config: Config) -> list[dict[str, str | int | float]]:
            return super().cells(config)[::-1]

    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        execute(Counting(interrupt), CONFIG, folder, resume=False)
    with pytest.raises(EconomyError, match="other cells"):
        execute(OtherCells(), CONFIG, folder, resume=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data_hashes"]["numbers"] = "xyz"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EconomyError, match="numbers has changed"):
        execute(Counting(), CONFIG, folder, resume=True)


def test_resume_in_an_empty_folder_starts(tmp_path: Path) -> None:
    assert Run(execute(Counting(), CONFIG, tmp_path, resume=True)).scenario == "counting"


def test_two_processes_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with (
        files.locked(tmp_path),
        pytest.raises(EconomyError, match="another process"),
        files.locked(tmp_path),
    ):
        pass


def test_warnings_are_shown_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Long(Counting):
        def open(self, config: Config, log: Log) -> Session:
            log("2 texts are chunked", level="warning")
            return super().open(config, log)

    execute(Long(), CONFIG, tmp_path / "run", resume=False)
    assert "2 texts are chunked\n" in capsys.readouterr().err
    assert '"2 texts are chunked"' in (tmp_path / "run" / "log.jsonl").read_text()


def test_going_on_with_other_versions_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        execute(Counting(interrupt), CONFIG, folder, resume=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    execute(Counting(), CONFIG, folder, resume=True)
    assert "the run began with versions.torch 1.0 and goes on with" in capsys.readouterr().err


def test_a_column_that_names_the_cell_twice_is_a_bug(tmp_path: Path) -> None:
    class Twice(Counting):
        def run_cell(self, session: object, cell: object) -> dict[str, pd.DataFrame]:  # type: ignore[override]
            return {"metrics": pd.DataFrame({"seed": [1]})}

    with pytest.raises(ValueError, match=r"'metrics' already has .*seed"):
        execute(Twice(), CONFIG, tmp_path / "run", resume=False)


def test_reader_refuses_what_is_no_run(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(EconomyError, match="holds no run"):
        Run(tmp_path)
    with pytest.raises(EconomyError, match="did you mean 'prices'"):
        Run(whole).table("price")
    assert Run(whole).table("prices").equals(pd.read_parquet(whole / "prices.parquet"))
