"""A package of its own adds a mechanism through its entry point and keeps the contract."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from test_outside_package import install

from agent_economy.mechanisms import Guarantees

PACKAGE = Path(__file__).parent / "first_come_economy"
GUIDE = Path(__file__).parents[2] / "docs" / "mechanisms.md"


def test_an_installed_package_passes_its_own_contract(tmp_path: Path) -> None:
    install(PACKAGE, tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "HYPOTHESIS_PROFILE": "quick",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    # Skipped: clauses of guarantees that are not given, or that lots and causality rule out.
    assert "19 passed, 5 skipped" in run.stdout


def test_the_guide_shows_this_package() -> None:
    guide = GUIDE.read_text("utf-8")
    code = (PACKAGE / "first_come.py").read_text("utf-8")
    assert code[code.index("class ") :] in guide
    declared = (PACKAGE / "pyproject.toml").read_text("utf-8")
    start = declared.index("[project.entry-points")
    assert declared[start : declared.index("\n\n", start)] in guide
    contract = (PACKAGE / "test_first_come.py").read_text("utf-8")
    start = contract.index("class Test")
    assert contract[start : contract.index("\n\n", start)] in guide
    assert (PACKAGE / "conftest.py").read_text("utf-8").split('"""\n\n')[1] in guide


def test_the_guide_names_every_guarantee() -> None:
    guide = GUIDE.read_text("utf-8")
    for field in dataclasses.fields(Guarantees):
        assert f"| `{field.name}` |" in guide
