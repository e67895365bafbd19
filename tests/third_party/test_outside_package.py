"""A package of its own adds an adapter through its entry point and keeps the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent / "electra_economy"


def install(package: Path, folder: Path) -> None:
    """What pip would do: modules, and metadata with the entry points."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    for module in package.glob("*.py"):
        shutil.copy(module, folder)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def test_an_installed_package_passes_its_own_tests(tmp_path: Path) -> None:
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
    assert "16 passed" in run.stdout


def test_the_guide_shows_this_package() -> None:
    guide = (PACKAGE.parents[2] / "docs" / "adapters.md").read_text("utf-8")
    adapter = (PACKAGE / "electra_adapter.py").read_text("utf-8")
    assert adapter[adapter.index("class ") :] in guide
    declared = (PACKAGE / "pyproject.toml").read_text("utf-8")
    start = declared.index("[project.entry-points")
    assert declared[start : declared.index("\n\n", start)] in guide
