"""The command line: one line per error, exit codes, nothing heavy for --help."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_economy.cli import main
from agent_economy.runs.reader import Run

UNIT = Path(__file__).parents[1] / "unit" / "runs"
PLUGIN = """
[agent_economy.scenarios]
counting = counting:Counting
broken = no_such_module:X
[agent_economy.reports]
html = plugin:write_report
[agent_economy.benchmarks]
clearing = plugin:clearing
latency = plugin:never
frontier = plugin:never
"""
CODE = """
def write_report(run_dirs):
    return run_dirs[0] / "report.html"
def clearing():
    return [{"mechanism": "greedy", "latency_ms": 1.23456}]
def never():
    raise AssertionError("nobody asked for it")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a scenario, a report and a benchmark; the folder to work in."""
    site, work = tmp_path / "site", tmp_path / "work"
    info = site / "plugin-1.0.dist-info"
    for folder in (info, work):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(PLUGIN)
    (site / "plugin.py").write_text(CODE)
    for path in (site, UNIT):
        monkeypatch.syspath_prepend(str(path))
    # Entry points of the real distribution must not shadow the pretended ones.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(UNIT)]))
    monkeypatch.chdir(work)
    return work


def call(*words: str) -> int:
    """The exit code of one command line."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


def test_run_prints_the_folder_and_numbers_on(
    plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "counting") == 0
    assert call("run", "counting", "-s", "seed=4", "-s", "market.rounds=5") == 0
    assert capsys.readouterr().out.split() == ["runs/counting-1", "runs/counting-2"]
    assert Run("runs/counting-2").config["seed"] == 4
    assert Run("runs/counting-2").config["market"]["rounds"] == 5


def test_a_config_file_and_a_run_s_own_config_run(plugin: Path) -> None:
    Path("my.toml").write_text("repeats = 1\n")
    assert call("run", "counting", "-c", "my.toml", "-o", "one") == 0
    assert call("run", "counting", "-c", "one/config.toml", "-o", "two") == 0
    for table in ("metrics", "prices", "agents"):
        name = f"{table}.parquet"
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes()
    assert call("run", "counting", "-o", "one", "--resume") == 0  # complete, with its own config


TRAIN = ["train", "--task", "stsb", "--model", "M", "-o", "D"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "countng"], "unknown scenario 'countng'; did you mean 'counting'?"),
        (["run", "broken"], "does not load: No module named 'no_such_module'"),
        (["run", "counting", "-s", "sed=1"], "unknown key 'sed'; did you mean 'seed'?"),
        (["run", "counting", "-s", "seed=x"], "-s seed: Input should be a valid integer"),
        (["run", "counting", "-s", "repeats=0"], "greater than or equal to 1"),
        (["run", "counting", "-s", "seed"], "write it as key=value"),
        (["run", "counting", "-s", "budgets=[]"], "no points to run"),
        (["run", "counting", "-c", "nope.toml"], "cannot read nope.toml"),
        (["run", "counting", "--bogus"], "No such option: --bogus"),
        (["run"], "Missing argument"),
        (["rnu"], "No such command 'rnu'"),
        (["report", "nowhere", "--bogus"], "No such option"),
        (["bench", "clerng"], "unknown benchmark 'clerng'; did you mean 'clearing'?"),
        (["train", "--task", "stsb", "-o", "D"], "'model' is missing"),
        (["train", "--task", "stb", "--model", "M", "-o", "D"], "unknown task 'stb'; did you mean"),
        ([*TRAIN, "--budget", "1.5"], "budget: Input should be less than or equal to 1"),
        ([*TRAIN, "-s", "epoch=3"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (
            ["train", "--frontier", "-s", "task=stsb", "-s", "budgets=[2.0]", "-o", "D"],
            "budgets: 2",
        ),
        (["eval", "./M", "--task", "stb", "--json"], "unknown task 'stb'; did you mean 'stsb'?"),
        (["eval", "./M", "--task", "stsb", "--executor", "fast"], "unknown executor 'fast'"),
        (["dashboard", "scarcty"], "unknown run folder or scenario 'scarcty'"),
        (["dashboard", "./R"], "./R is no folder; give a run folder or a scenario's name"),
        (["dashboard", "-s", "supplyy=0.5"], "unknown key 'supplyy'; did you mean 'supply'?"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(
    plugin: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(*words) == 2
    out, err = capfd.readouterr()
    assert out == "" and message in err
    assert err.startswith("agent-economy: ") and err.count("\n") == 1
    assert list(plugin.iterdir()) == []


def test_debug_shows_the_traceback(plugin: Path) -> None:
    from agent_economy.errors import EconomyError

    for words in (["--debug", "run", "countng"], ["run", "countng", "--debug"]):
        with pytest.raises(EconomyError, match="did you mean 'counting'"):
            main(words)


def test_a_bug_is_one_line_too(
    plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counting.Counting.cells", lambda self, config: 1 / 0)
    assert call("run", "counting") == 1
    assert "unexpected ZeroDivisionError: division by zero (--debug" in capsys.readouterr().err


def test_listings(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("scenarios") == 0
    out = capsys.readouterr().out
    assert re.search(r"^counting +numbers from the seed tree$", out, re.MULTILINE)
    assert "broken" in out and "No module named" in out  # and yet the others are listed
    assert call("models") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("minilm", "mpnet", "smollm2")
    ]


def test_report_and_bench_go_through_entry_points(
    plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    found = metadata.entry_points

    def outside(group: str) -> list[metadata.EntryPoint]:
        # The plugin names its entry points as the project does: leave the project's own out.
        own = ("analysis", "benchmarks")
        return [point for point in found(group=group) if not point.value.startswith(own)]

    monkeypatch.setattr(metadata, "entry_points", outside)
    assert call("report", "runs/a", "runs/b") == 0
    assert capsys.readouterr().out == "runs/a/report.html\n"
    assert call("bench", "clearing", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"clearing": [{"mechanism": "greedy", "latency_ms": 1.23456}]}
    assert call("bench", "clearing") == 0
    assert "greedy     1.235" in capsys.readouterr().out
    assert call("bench", "--json") == 0, "a table that budgets are read from, hours of training: no"
    assert json.loads(capsys.readouterr().out) == result


def test_ctrl_c_says_how_to_go_on(plugin: Path) -> None:
    program = (
        "import counting, os, signal, sys\n"
        "from agent_economy import cli\n"
        "run_cell = counting.Counting.run_cell\n"
        "def cut(self, session, cell):\n"
        "    if len(session.ran) == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return run_cell(self, session, cell)\n"
        "counting.Counting.run_cell = cut\n"
        "cli.main(['run', 'counting', '-o', 'cut'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    last = done.stderr.strip().splitlines()[-1]
    assert last == ("agent-economy: interrupted; repeat the command with -o cut --resume to go on")
    assert "Traceback" not in done.stderr
    assert call("run", "counting", "--resume", "-o", "cut") == 0
    assert len(Run("cut").table("metrics")) == 6


@pytest.mark.parametrize(
    "verb",
    [
        *("models", "scenarios", "run", "finetune", "train"),
        *("eval", "compact", "bench", "report", "dashboard"),
    ],
)
def test_each_verb_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    assert f"Example: agent-economy {verb}" in capsys.readouterr().out


def test_help_is_light_and_quick() -> None:
    program = (
        "import sys\n"
        "from agent_economy.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'pyarrow', 'mesa', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert "scenarios" in done.stdout
    assert min(seconds) < 0.5, seconds  # the quickest of three: the machine may be busy


def test_no_words_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "Usage: agent-economy" in capsys.readouterr().out


def test_scenarios_are_listed_without_torch() -> None:
    program = (
        "import sys\n"
        "from agent_economy.cli import main\n"
        "try: main(['scenarios'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
