"""The scarcity study on a tiny random BERT over real text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from models import tiny_model

from agent_economy import Economy
from agent_economy.cli import main
from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.study import Study
from simulations.scarcity import SCENARIO
from simulations.scarcity.config import ScarcityConfig

TABLES = ("metrics", "prices", "allocations", "agents", "attention")


@pytest.fixture(scope="module")
def run(tiny_study: ScarcityConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, tiny_study, tmp_path_factory.mktemp("runs") / "one", False))


def values(run: Run, metric: str, **cell: Any) -> Any:
    table = run.table("metrics")
    chosen = table[table.metric == metric]
    for key, value in cell.items():
        chosen = chosen[chosen[key] == value]
    return chosen.value


def test_full_supply_is_the_dense_model(run: Run) -> None:
    assert (abs(values(run, "utility", budget_fraction=1.0) - 1) < 1e-6).all()
    assert (values(run, "flops_fraction", budget_fraction=1.0) == 1).all()
    assert (values(run, "price_mean", budget_fraction=1.0) == 0).all()
    dense = values(run, "attention_entropy_dense", budget_fraction=1.0).to_numpy()
    scarce = values(run, "attention_entropy", budget_fraction=1.0).to_numpy()
    assert abs(dense - scarce).max() < 1e-9


def test_scarcity_binds(run: Run) -> None:
    spent = values(run, "flops_fraction", budget_fraction=0.5)
    assert (spent <= 0.5).all() and (spent > 0.2).all()
    assert (values(run, "utility", budget_fraction=0.5) < 1).all()
    priced = values(run, "price_mean", budget_fraction=0.5, mechanism="uniform_price")
    assert (priced > 0).all()
    for free in ("uniform", "static_mask"):
        assert (values(run, "price_mean", mechanism=free) == 0).all()


def test_static_masks_run_beside_the_markets(run: Run) -> None:
    masks = run.table("agents").query("mechanism == 'static_mask' and budget_fraction == 0.5")
    assert set(masks.policy) == {"fisher_mask", "random_mask", "taylor_mask"}
    assert set(masks.served_fraction) == {0.0, 1.0}
    assert (masks.groupby(["policy", "layer", "agent"]).served_fraction.nunique() == 1).all()
    chosen = run.table("metrics").query("metric == 'selection_loss'")
    assert len(chosen) == 6  # one for each mask: three rivals at two budgets
    dense = chosen[chosen.budget_fraction == 1.0].value
    assert (dense < 1e-9).all() and (chosen.value.drop(dense.index) > 0).all()


def test_efficiency_is_a_share_of_the_optimum(run: Run) -> None:
    efficiency = values(run, "efficiency", mechanism="uniform_price", scope="sequence")
    assert (efficiency <= 1 + 1e-9).all() and (efficiency > 0.8).all()


def test_token_prices_differ_over_tokens(run: Run) -> None:
    shown = run.table("prices").query("token >= 0 and layer == 0")
    per_token = shown[shown.scope == "token"].price_per_gflop
    per_row = shown[(shown.scope == "sequence") & (shown.mechanism == "uniform_price")]
    assert per_token.nunique() > 1
    assert (per_row.groupby("policy").price_per_gflop.nunique() == 1).all()


def test_showcase_rows_are_consistent(run: Run) -> None:
    gates = run.table("allocations")
    assert set(gates.allocation.unique()) <= {0.0, 1.0}
    assert set(gates.kind.unique()) == {"head", "block"}
    dense = run.table("attention").query("setting == 'dense'")
    rows = dense.groupby(["mechanism", "policy", "scope", "layer", "query"]).attention.sum()
    assert (abs(rows - 1) < 1e-5).all()


def test_wallets_conserve_credits(run: Run, tiny_study: ScarcityConfig) -> None:
    agents = run.table("agents")
    issued = tiny_study.wallet.endowment_credits * len(agents.groupby(["layer", "agent"]))
    wealth = agents.groupby(["mechanism", "policy", "scope", "budget_fraction", "step"])
    assert (wealth.wallet_credits.sum() <= issued * (1 + 1e-9)).all()
    assert (agents.wallet_credits >= -1e-6).all()


def test_same_seed_same_bytes(run: Run, tiny_study: ScarcityConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, tiny_study, tmp_path / "two", False)
    for table in TABLES:
        one, other = run.path / f"{table}.parquet", again / f"{table}.parquet"
        assert one.read_bytes() == other.read_bytes(), table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markets": [{"mechanism": "uniform_prize"}]}, "did you mean 'uniform_price'"),
        ({"markets": [{"mechanism": "uniform", "policies": ["tailor"]}]}, "did you mean 'taylor'"),
        (
            {"markets": [{"mechanism": "posted_price", "scope": "token"}]},
            "does not clear per token",
        ),
        ({"budgets": [0.5, 0.5]}, "repeats a value"),
        ({"rivals": ["fischer_mask"]}, "did you mean 'fisher_mask'"),
        ({"rivals": ["taylor_mask", "taylor_mask"]}, "repeats a value"),
        (
            {"rivals": [{"name": "taylor_mask", "options": {"forwards": 3}}]},
            "does not take these options",
        ),
        ({"task": "stsb"}, "has no head for task 'stsb'"),
        ({"model": "minilmm"}, "minilm"),
    ],
)
def test_bad_configs_are_one_line(
    tiny_study: ScarcityConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = ScarcityConfig.model_validate({**tiny_study.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, config, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("budget", [1.0, 0.0001])
def test_a_showcase_without_a_market_has_no_bids(
    tiny_study: ScarcityConfig, tmp_path: Path, budget: float
) -> None:
    """Supply is not scarce, or cannot pay for the market itself: nobody bids."""
    markets = [{"mechanism": "uniform_price"}]
    changed = {**tiny_study.model_dump(), "budgets": [budget], "markets": markets}
    config = ScarcityConfig.model_validate(changed)
    gates = Run(execute(SCENARIO, config, tmp_path / "one", False)).table("allocations")
    assert gates.bid.isna().all()
    assert (gates.allocation == (1.0 if budget == 1.0 else 0.0)).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-s", "model=minillm"], "minilm"),
        (["-s", "markets=[{mechanism='greedy_dens'}]"], "did you mean 'greedy_density'"),
        (["-s", "markets=[{mechanism='uniform', policies=['fischer']}]"], "did you mean 'fisher'"),
        (["-s", "budgets=[1.5]"], "budgets"),
        (["-s", "budgets=[0.0]"], "budgets"),
        (["-s", "budgets='much'"], "budgets"),
        (["-s", "bugdets=[0.5]"], "did you mean 'budgets'"),
        (["-s", "wallet.endowment_credits=-1"], "endowment_credits"),
        (["-s", "text={empty}"], "empty.txt"),
        (["-s", "text={binary}"], "binary.bin"),
        (["-s", "text=no-such-text"], "no-such-text"),
    ],
)
def test_bad_input_on_the_command_line(
    tiny_folder: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)) * 8)
    places = {"{empty}": tmp_path / "empty.txt", "{binary}": tmp_path / "binary.bin"}
    for mark, path in places.items():
        words = [word.replace(mark, str(path)) for word in words]
    out, base = tmp_path / "out", ["-s", f"model={tiny_folder}", "-s", "block_size=32"]
    with pytest.raises(SystemExit) as left:
        main(["run", "scarcity", *base, *words, "-o", str(out)])
    err = capfd.readouterr().err.strip().splitlines()
    assert left.value.code == 2
    assert err[-1].startswith("agent-economy: ") and message in err[-1]
    assert not out.exists()


def test_a_decoder_refuses_a_mechanism_that_looks_ahead() -> None:
    with pytest.raises(EconomyError, match=r"choose a causal one: .*posted_price"):
        Economy.from_model(tiny_model("gpt2"), mechanism={"name": "uniform_price"}, block_size=8)


def test_joint_markets_have_cells_and_figures_of_their_own(
    tiny_study: ScarcityConfig, tmp_path: Path
) -> None:
    markets = [
        {"mechanism": "uniform_price", "timing": timing} for timing in ("spot", "forward", "trace")
    ]
    changed = {"markets": markets, "budgets": [0.5], "detail": False}
    config = ScarcityConfig.model_validate({**tiny_study.model_dump(), **changed})
    study = Study(execute(SCENARIO, config, tmp_path / "one", False))
    metrics = study.table("metrics")
    assert set(metrics.scope) == {"sequence", "sequence, forward", "sequence, trace", ""}
    assert "timing" not in metrics and study.table("metrics") is metrics
    spent = metrics[metrics.metric == "flops_fraction"]
    assert (spent.value <= 0.5).all()
    utility = metrics[metrics.metric == "utility"].groupby("scope").value.mean()
    assert utility.nunique() == 4  # when contracts are made changes what is served
