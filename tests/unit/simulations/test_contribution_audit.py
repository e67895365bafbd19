"""The contribution audit: the game against the ablation oracle, books, the run, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import assert_csv_draws_the_same

from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import hooked
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.contribution import measures
from analysis.figures.base import FIGURES
from simulations.contribution_audit import SCENARIO
from simulations.contribution_audit.cell import _game
from simulations.contribution_audit.config import AuditConfig
from simulations.laboratory.session import Laboratory


@pytest.fixture(scope="module")
def config(tiny_folder: str) -> AuditConfig:
    return AuditConfig.model_validate(
        {
            "model": tiny_folder,
            "batch_size": 6,
            "max_tokens": 16,
            "calibration_texts": 6,
            "probes": 1,
            "block_size": 40,
            "seeds": [0, 1],
        }
    )


@pytest.fixture(scope="module")
def run(config: AuditConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, config, tmp_path_factory.mktemp("runs") / "one", False))


def test_a_silent_agent_adds_nothing_to_the_residual_stream(config: AuditConfig) -> None:
    """Zeroing a head's slice by hand loses what the game says."""
    session = Laboratory(config, lambda *args, **fields: None)
    (dense,) = session.stream(0)
    game, shape = _game(session, dense), session.adapter.shape
    present = torch.ones(6, 2 * shape.agents, dtype=torch.bool)
    torch.testing.assert_close(game(present), torch.zeros(6).double(), atol=1e-9, rtol=0)
    present[:, shape.agents + 2] = False  # layer 1, head 2

    def silence(layer: int, x: torch.Tensor) -> torch.Tensor:
        if layer == 1:
            x = x.clone()
            x[..., 2 * shape.head_dim : 3 * shape.head_dim] = 0
        return x

    keep = hooked(session.adapter, lambda layer, h: None, silence, lambda layer, x: x)
    with torch.no_grad(), keep:
        output = session.model(**dense.batch)
    pooled = session.utility.reference(output, dense.batch)
    lost = 1 - (pooled * dense.reference).sum(-1)
    torch.testing.assert_close(-game(present), lost.double(), atol=1e-5, rtol=1e-3)


def test_shapley_values_share_out_the_whole(run: Run) -> None:
    audit = run.table("audit")
    orders = audit[audit.study == "shapley"]
    total = orders.groupby(["seed", "row", "round"]).worth.sum().unstack()
    np.testing.assert_allclose(total[0], total[1], atol=1e-9)  # all less nobody, whatever the order
    assert (total > 0).all(axis=None)


def test_the_books_of_the_market(run: Run) -> None:
    market = run.table("audit").query("study == 'market'")
    assert (market.served <= 1 + 1e-9).all() and (market.rent >= -1e-5).all()
    texts = market.groupby(["policy", "seed", "row"])[["payment", "income", "declared"]].sum()
    np.testing.assert_allclose(texts.payment, texts.income)  # wages are the whole revenue
    assert (texts.payment <= texts.declared).all()
    assert len(measures(run.table("audit"))["payment, taylor"]) == 12


def test_ratings_need_their_package(
    config: AuditConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulations.contribution_audit.cell as cell

    monkeypatch.setattr(cell, "find_spec", lambda name: None)
    small = config.model_copy(update={"policies": ["taylor"], "rounds": 1, "seeds": [0]})
    without = Run(execute(SCENARIO, small, tmp_path / "without", False))
    assert "audit_ratings" not in without.tables
    assert FIGURES.get("audit_table")().data(without).query("one == 'rating'").empty


def test_same_seed_same_bytes(run: Run, config: AuditConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, config, tmp_path / "two", False)
    files = sorted(run.path.glob("audit*.parquet"))
    assert files
    for file in files:
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["audit", "audit_table"])
def test_the_csv_alone_draws_the_same_figure(name: str, run: Run) -> None:
    assert_csv_draws_the_same(name, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"policies": ["tailor"]}, "did you mean 'taylor'"), ({"supply": 1.0}, "nothing is scarce")],
)
def test_bad_configs_are_one_line(
    config: AuditConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = AuditConfig.model_validate({**config.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, changed, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
