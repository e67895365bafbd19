"""Sweeps: children that fail, are killed, wait for each other, and are taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from counting import Config

from agent_economy.errors import EconomyError
from agent_economy.runs import children as children_module
from agent_economy.runs.children import THREADS, threads_for
from agent_economy.runs.manifest import machine
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import Interrupted
from agent_economy.runs.sweep import CellsFailed, Job, Sweep

COMMAND = "agent-economy train --frontier -o sweep --resume"


def is_done(cell: Path) -> bool:
    return (cell / "done").is_file()


def job(folder: Path, name: str, script: str = "", after: tuple[str, ...] = ()) -> Job:
    """A cell that counts its attempts and is done if its script, run in its folder, succeeds."""
    cell = folder / "cells" / name
    lines = (
        f"mkdir -p {cell} && cd {cell} && echo x >> attempts",
        script or ":",
        "touch done",
    )
    return Job(name, ("sh", "-ec", "\n".join(lines)), after)


def sweep(folder: Path, jobs: list[Job], config: Config | None = None, **options: object) -> Sweep:
    return Sweep(folder, jobs, done=is_done, config=config or Config(), command=COMMAND, **options)  # type: ignore[arg-type]


def attempts(folder: Path, name: str) -> int:
    path = folder / "cells" / name / "attempts"
    return len(path.read_text().split()) if path.is_file() else 0


def log(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def manifest(folder: Path) -> dict[str, object]:
    return json.loads((folder / "manifest.json").read_text())


def test_all_cells_run_and_their_tables_are_made_once(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def finish(folder: Path) -> None:
        seen.append({p.name for p in (folder / "cells").iterdir() if is_done(p)})

    names = ["a-0.5-0", "b-0.5-0", "c-0.5-0"]
    folder = tmp_path / "sweep"
    made = sweep(folder, [job(folder, name) for name in names])
    assert made.run(workers=2, finish=finish) == folder
    assert seen == [set(names)]
    about = manifest(folder)
    assert about["status"] == "complete" and about["scenario"] == "frontier"
    assert about["jobs"] == names and about["cells"] == 3
    assert about["resume_command"] == COMMAND
    assert [line["message"] for line in log(folder)].count("cell") == 3
    assert (folder / "config.toml").read_text().startswith(f"# {COMMAND}\n")
    assert not (folder / "parts").exists()
    # Nothing is left to do: no cell is tried again.
    sweep(folder, [job(folder, name) for name in names]).run(resume=True)
    assert [attempts(folder, name) for name in names] == [1, 1, 1]


def test_a_killed_cell_is_lost_alone_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = "test $(wc -l < attempts) -gt 1 || kill -KILL $$"
    jobs = [
        job(tmp_path, "good-1"),
        job(tmp_path, "killed", once),
        job(
            tmp_path, "broken", "test $(wc -l < attempts) -gt 1 || { echo 'no luck' >&2; exit 3; }"
        ),
        job(tmp_path, "good-2"),
    ]
    finished: list[Path] = []
    with pytest.raises(CellsFailed) as caught:
        sweep(tmp_path, jobs).run(workers=2, finish=finished.append)
    line = str(caught.value)
    assert caught.value.exit_code == 1
    assert "2 of 4 cells failed: killed, broken" in line and "--resume" in line
    assert "killed: killed by SIGKILL" in line and "\n" not in line
    assert "broken failed: no luck" in capsys.readouterr().err
    assert finished == [tmp_path]  # tables of what is done are made all the same
    assert manifest(tmp_path)["status"] == "incomplete"
    sweep(tmp_path, jobs).run(workers=2, resume=True)
    assert [attempts(tmp_path, each.name) for each in jobs] == [1, 2, 2, 1]
    assert manifest(tmp_path)["status"] == "complete"
    assert (tmp_path / "logs" / "broken.log").read_text().count("--- ") == 2


def test_a_cell_that_ends_well_without_being_done_has_failed(tmp_path: Path) -> None:
    with pytest.raises(CellsFailed, match=r"1 of 1 cells failed: idle .*without completing"):
        sweep(tmp_path, [Job("idle", ("true",))]).run(finish=lambda folder: pytest.fail("no cell"))


def test_cells_wait_for_those_they_need(tmp_path: Path) -> None:
    order = f"echo $(basename $PWD) >> {tmp_path}/order"
    jobs = [
        job(tmp_path, "student", order, after=("teacher",)),
        job(tmp_path, "teacher", f"until test -f ../alone/done; do sleep 0.05; done; {order}"),
        job(tmp_path, "alone", order),
    ]
    sweep(tmp_path, jobs).run(workers=3)
    assert (tmp_path / "order").read_text().split() == ["alone", "teacher", "student"]


def test_cells_that_wait_for_a_failed_one_are_not_started(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "teacher", "exit 1"),
        job(tmp_path, "student", after=("teacher",)),
        job(tmp_path, "grandchild", after=("student",)),
        job(tmp_path, "alone"),
    ]
    with pytest.raises(CellsFailed, match="1 of 4 cells failed: teacher, 2 more wait for them"):
        sweep(tmp_path, jobs).run(workers=2)
    assert [attempts(tmp_path, each.name) for each in jobs] == [1, 0, 0, 1]


def test_cells_run_side_by_side_but_no_more_than_told(tmp_path: Path) -> None:
    running, seen, folder = tmp_path / "running", tmp_path / "seen", tmp_path / "sweep"
    running.mkdir()
    count = f"ls {running} | wc -l >> {seen}"
    # The first two wait for each other: one by one they would never end.
    meet = f"until test $(ls {running} | wc -l) -ge 2; do sleep 0.05; done; sleep 0.2"
    jobs = [
        job(folder, name, f"touch {running}/{name}; {meet}; {count}") for name in ("one", "two")
    ]
    jobs.append(job(folder, "free", f"rm {running}/*", after=("one", "two")))
    for name in ("three", "four", "five"):
        script = f"touch {running}/{name}; sleep 0.1; {count}; rm {running}/{name}"
        jobs.append(job(folder, name, script, after=("free",)))
    sweep(folder, jobs).run(workers=2)
    counts = [int(n) for n in seen.read_text().split()]
    assert len(counts) == 5 and max(counts) == 2


PROGRAM = """
import sys; from pathlib import Path
from test_sweep import job, sweep
folder = Path(sys.argv[1])
script = "test $(wc -l < attempts) -gt 1 || { echo $$ > pid; exec sleep 60; }"
jobs = [job(folder, "quick"), job(folder, "slow", script), job(folder, "next", script)]
sweep(folder, jobs).run(workers=2, resume=len(sys.argv) > 2)
"""


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PROGRAM, str(folder), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not (path.is_file() and path.read_text().strip()):
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and prctl")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_ended_leaves_no_child_and_resumes(
    tmp_path: Path, number: signal.Signals
) -> None:
    running = start(tmp_path)
    pids = []
    for name in ("slow", "next"):
        wait_for(tmp_path / "cells" / name / "pid")
        pids.append(int((tmp_path / "cells" / name / "pid").read_text()))
    assert all(map(alive, pids))
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert all(map(gone, pids))
    assert manifest(tmp_path)["status"] == "running"
    if number == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert b"Interrupted: interrupted; repeat the command" in said
    again = start(tmp_path, "resume")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said.decode()
    assert [attempts(tmp_path, name) for name in ("quick", "slow", "next")] == [1, 2, 2]
    assert manifest(tmp_path)["status"] == "complete"


def test_a_child_that_ignores_requests_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = children_module.Child(
        "deaf", ("sh", "-c", "trap '' INT TERM; echo up; while :; do sleep 0.1; done"),
        tmp_path / "log", {},
    )  # fmt: skip
    until = time.monotonic() + 20
    while "up" not in (tmp_path / "log").read_text().splitlines():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not child.ended
    children_module.stop([child], grace_s=0.3)
    assert child.ended and child.code == -signal.SIGKILL


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="cannot start 'no-such-command'"):
        sweep(tmp_path, [Job("one", ("no-such-command",))]).run()


def test_threads_are_shared_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    cores = machine()["cores"]
    assert threads_for(1) == {THREADS: str(cores)}
    assert threads_for(1000 * cores) == {THREADS: "1"}
    sweep(tmp_path, [job(tmp_path, "one", f"printf ${THREADS} > threads")]).run(workers=cores)
    assert (tmp_path / "cells" / "one" / "threads").read_text() == "1"
    monkeypatch.setenv(THREADS, "7")
    assert threads_for(2) == {}


def test_a_sweep_resumes_only_as_itself(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "one")]
    sweep(tmp_path, jobs).run()
    with pytest.raises(EconomyError, match="--resume"):
        sweep(tmp_path, jobs).run()
    other = Config(seed=1)
    with pytest.raises(EconomyError, match="seed = 0, not 1"):
        sweep(tmp_path, jobs, other).run(resume=True)
    # What may change, does: the cell that is done stays, the new one runs.
    more = [*jobs, job(tmp_path, "two")]
    sweep(tmp_path, more, other, may_change=("seed",)).run(resume=True)
    assert [attempts(tmp_path, name) for name in ("one", "two")] == [1, 1]
    assert "seed = 1" in (tmp_path / "config.toml").read_text()
    assert manifest(tmp_path)["jobs"] == ["one", "two"]


def test_an_unfinished_sweep_is_read_once_it_has_tables(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "bad", "exit 1"), job(tmp_path, "good")]
    with pytest.raises(CellsFailed):
        sweep(tmp_path, jobs).run()
    with pytest.raises(EconomyError, match=f"complete it with `{COMMAND}`"):
        Run(tmp_path)
    (tmp_path / "cells.parquet").write_bytes(b"")
    assert Run(tmp_path).tables == ["cells"]


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(EconomyError, match="other files"):
        sweep(tmp_path, [job(tmp_path, "one")]).run()
    with pytest.raises(EconomyError, match="--jobs 0"):
        sweep(tmp_path, []).run(workers=0)


def test_impossible_lists_are_bugs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share a name"):
        sweep(tmp_path, [Job("a", ("true",)), Job("a", ("true",))])
    with pytest.raises(ValueError, match="for ever"):
        sweep(tmp_path, [Job("a", ("true",), ("b",)), Job("b", ("true",), ("a",))])
    with pytest.raises(ValueError, match="'b' waits for"):
        sweep(tmp_path, [Job("b", ("true",), ("nobody",))])
    with pytest.raises(ValueError, match="folder's name"):
        sweep(tmp_path, [Job("../up", ("true",))])


def test_interrupted_is_what_the_command_line_knows() -> None:
    assert Interrupted("x").exit_code == 130
