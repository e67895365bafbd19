"""A package of its own adds a policy through its entry point and keeps the contract."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from test_outside_package import install

PACKAGE = Path(__file__).parent / "loudness_economy"


def test_an_installed_policy_passes_its_own_tests(tmp_path: Path) -> None:
    install(PACKAGE, tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "12 passed" in run.stdout


def test_the_guide_shows_this_package() -> None:
    guide = (PACKAGE.parents[2] / "docs" / "policies.md").read_text("utf-8")
    policy = (PACKAGE / "loudness_policy.py").read_text("utf-8")
    assert policy[policy.index("import torch") :] in guide
    declared = (PACKAGE / "pyproject.toml").read_text("utf-8")
    start = declared.index("[project.entry-points")
    assert declared[start : declared.index("\n\n", start)] in guide
    tested = (PACKAGE / "test_loudness_policy.py").read_text("utf-8")
    start = tested.index("class TestLoudness")
    assert tested[start : tested.index("\n\n\n", start)] in guide
