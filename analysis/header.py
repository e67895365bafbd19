"""What a run was: the few facts that a reader wants before any number."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agent_economy.runs.reader import Run


def facts(run: Run) -> dict[str, str]:
    """Scenario, model, time, machine, versions and size of a run; what is unknown is left out."""
    manifest = run.manifest
    machine, versions = manifest.get("machine") or {}, manifest.get("versions") or {}
    seeds = manifest.get("seeds") or {}
    shown = {
        "Scenario": run.scenario,
        "Model": _model(run.config),
        "Measured": _when(manifest.get("started"), manifest.get("ended")),
        "Machine": _machine(machine),
        "Seeds": _listed(seeds.get("cells") or seeds.get("seeds")),
        "Cells": str(manifest.get("cells", "")),
        "Commit": str(manifest.get("git_commit") or ""),
        "Versions": _listed([f"{name} {number}" for name, number in versions.items()]),
    }
    return {name: value for name, value in shown.items() if value}


def _model(config: dict[str, Any]) -> str:
    model = config.get("model", "")
    if isinstance(model, dict):
        model = next((model[key] for key in ("name", "id", "path") if key in model), "")
    return str(model)


def _machine(machine: dict[str, Any]) -> str:
    parts = [str(machine[key]) for key in ("cpu", "accelerator", "system") if machine.get(key)]
    for key, noun in (("cores", "cores"), ("threads", "threads"), ("ram_gib", "GiB RAM")):
        if machine.get(key):
            parts.append(f"{machine[key]} {noun}")
    return ", ".join(parts)


def _when(started: str | None, ended: str | None) -> str:
    if not started or not ended:
        return str(started or ended or "")
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return f"{started.replace('T', ' ')}, {took.total_seconds():.0f} s"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values or "")
