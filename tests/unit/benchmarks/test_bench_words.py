"""No benchmark starts before its command line is understood."""

from __future__ import annotations

import importlib

import pytest

NAMES = [
    "clearing", "compiled", "dashboard", "executors", "frontiers", "latency", "outside_check",
    "overhead", "step",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_help_measures_nothing_and_unknown_words_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    for words, code in ((["--help"], 0), (["--nope"], 2)):
        with pytest.raises(SystemExit) as left:
            module.main(words)
        assert left.value.code == code
    said = capsys.readouterr()
    assert module.__doc__.strip().splitlines()[0] in said.out
    assert "--nope" in said.err or "required" in said.err
