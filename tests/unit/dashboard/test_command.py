"""``agent-economy dashboard``: what it refuses, in one line."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

from agent_economy.cli import main
from agent_economy.dashboard import command
from agent_economy.dashboard.setting import Setting


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["dashboard", "--no-open", *words])
    out, err = capfd.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("agent-economy: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scarcty"], "unknown run folder or scenario 'scarcty'; did you mean 'scarcity'?"),
        (["./nowhere"], "./nowhere is no folder; give a run folder or a scenario's name"),
        (["."], "holds no run; make one with `agent-economy run`"),
        (["-s", "supplyy=0.5"], "unknown key 'supplyy'; did you mean 'supply'?"),
        (["-s", "supply=1.5"], "less than or equal to 1"),
        (["scarcity", "-c", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capfd, *words)


def test_without_solara_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec

    def absent(name: str, *rest: Any) -> Any:
        return None if name == "solara" else real(name, *rest)

    monkeypatch.setattr(command, "find_spec", absent)
    assert "needs solara; run `pip install 'agent-economy[dashboard]'`" in refused(capfd)


def test_a_port_that_is_taken(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("solara")
    with socket.socket() as other:
        other.bind((command.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is taken" in refused(capfd, "--port", str(port))
    assert "port 99999 is taken or not allowed" in refused(capfd, "--port", "99999")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=minilmm", "unknown model 'minilmm'"),
        ("policy=tailor", "unknown policy 'tailor'"),
        ("mechanism.name=auction", "unknown mechanism 'auction'"),
        ("wallet.income.name=wages", "unknown income rule 'wages'"),
    ],
)
def test_an_economy_that_cannot_be_built_is_refused_before_it_is_served(
    capfd: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    pytest.importorskip("solara")
    assert message in refused(capfd, "--port", "0", "-s", setting)


def test_only_this_machine_can_reach_it() -> None:
    bound = command.bind(0)
    try:
        assert bound.getsockname()[0] == "127.0.0.1"
    finally:
        bound.close()


def test_the_defaults_are_a_whole_setting() -> None:
    setting = Setting()
    assert setting.model == "minilm" and 0 < setting.supply < 1
