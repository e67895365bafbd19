"""The reallocation study on tiny random models: values, masks, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from models import tiny_batch, tiny_model, write_tiny
from transformers import BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from agent_economy.adapters import adapter_for
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from agent_economy.tasks.utility import EmbeddingFidelity, LabelledScore, Perplexity, Utility
from simulations.reallocation import SCENARIO
from simulations.reallocation.config import ReallocationConfig
from simulations.reallocation.masks import random_mask
from simulations.reallocation.values import input_saliency, left_out

PARTS = ("dense", "composed", "scarce")


# --- values of tokens --------------------------------------------------------------------------


def prepared(architecture: str, head: str) -> tuple[Any, dict[str, Any], Utility]:
    model = tiny_model(architecture, head).double()
    batch = tiny_batch((6, 4))
    if head == "classify":
        batch["labels"] = torch.tensor([2, 0])
        return model, batch, LabelledScore("accuracy", regression=False)
    return model, batch, Perplexity() if head == "lm" else EmbeddingFidelity()


CASES = [("bert", "classify"), ("mpnet", "none"), ("llama", "lm"), ("gpt2", "lm")]


@pytest.mark.parametrize(("architecture", "head"), CASES)
def test_saliency_is_that_of_finite_differences(architecture: str, head: str) -> None:
    model, batch, utility = prepared(architecture, head)
    found = input_saliency(model, batch, utility.loss, 1, torch.Generator().manual_seed(3))
    table = model.get_input_embeddings()
    row, token = 1, 2
    embedding = table.weight[batch["input_ids"][row, token]].detach()
    moved: dict[str, torch.Tensor] = {}

    def move(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[row, token] += moved["by"]
        return output

    def loss(by: torch.Tensor) -> float:
        moved["by"] = by
        with torch.no_grad():
            output = model(**batch)
            return float(utility.loss(output, batch, torch.Generator().manual_seed(3)))

    handle = table.register_forward_hook(move)
    # Perplexity is taken in float32, where small steps drown.
    size, close = (1e-2, 5e-3) if head == "lm" else (1e-5, 1e-4)
    steps = size * torch.eye(len(embedding), dtype=torch.float64)
    slope = torch.tensor([(loss(step) - loss(-step)) / (2 * size) for step in steps])
    handle.remove()
    assert found[row, token] == pytest.approx(float((slope * embedding).norm()), rel=close)
    assert not found[1, 4:].any()  # padding is not read by anyone


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_leaving_out_is_running_without_the_token(architecture: str) -> None:
    """The token is deleted for good; all others keep their positions."""
    head = "classify" if architecture == "bert" else "lm"
    model, batch, utility = prepared(architecture, head)
    with torch.no_grad():
        output = model(**batch)
    ranked = batch["attention_mask"].bool().clone()
    ranked[:, 0] = False
    found = left_out(model, batch, utility, output, ranked)
    row, token, length = 0, 2, 6
    kept = [k for k in range(length) if k != token]
    ids, positions = batch["input_ids"][row, kept][None], torch.tensor(kept)[None]
    with torch.no_grad():
        bare = model(input_ids=ids, position_ids=positions)
    if head == "classify":
        without = {"labels": batch["labels"][[row]]}
        change = (
            utility.row_loss(bare, without, bare.logits)
            - utility.row_loss(output, batch, output.logits)[row]
        )
    else:
        # What later tokens predict; what the token itself and its predecessor predict is apart.
        change = torch.zeros((), dtype=torch.float64)
        for query in range(token + 1, length - 1):
            target = batch["input_ids"][row, query + 1]
            full = output.logits[row, query].log_softmax(-1)[target]
            change = change + full - bare.logits[0, kept.index(query)].log_softmax(-1)[target]
    assert found[row, token] == pytest.approx(abs(float(change)), rel=1e-6)
    assert found[row, token] > 1e-6 and not found[~ranked].any()


def test_a_pooled_embedding_loses_the_token_too() -> None:
    model, batch, utility = prepared("bert", "none")
    ranked = batch["attention_mask"].bool()
    found = left_out(model, batch, utility, model(**batch), ranked)
    kept, mask = [0, 1, 3], batch["attention_mask"][1:, :3]
    dense = utility.reference(model(**batch), batch)[1].detach()
    with torch.no_grad():
        bare = model(input_ids=batch["input_ids"][1:, kept], position_ids=torch.tensor([kept]))
    pooled = utility.reference(bare, {"attention_mask": mask})[0]
    assert found[1, 2] == pytest.approx(1 - float(pooled @ dense), rel=1e-6)


# --- masks of equal spend ----------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_random_mask_spends_what_it_may(architecture: str, fraction: float, pooled: bool) -> None:
    shape = adapter_for(tiny_model(architecture), 16).shape
    layers = 3
    tariffs = [
        layer_tariffs(shape, layers, tiny_batch(lengths)["attention_mask"].bool(), pooled=pooled)
        for lengths in ((11, 7, 4), (5,))
    ]
    dense = sum(int(tariff.dense_flops_BL.sum()) for each in tariffs for tariff in each)
    budget = int(fraction * dense)
    plan = random_mask(tariffs, budget, seed=1)
    spent = _spend(plan, tariffs)
    assert spent <= budget and plan.shape == (layers, shape.agents)
    for place in (~plan).nonzero().tolist():  # nobody else would have fitted
        more = plan.clone()
        more[tuple(place)] = True
        assert _spend(more, tariffs) > budget
    assert torch.equal(plan, random_mask(tariffs, budget, seed=1))
    if fraction in (0.0, 1.0):
        assert plan.all() if fraction else not plan.any()
    else:
        assert not torch.equal(plan, random_mask(tariffs, budget, seed=2))


def _spend(plan: torch.Tensor, tariffs: list[list[Any]]) -> int:
    """Loops over agents and units."""
    total = 0
    for batch in tariffs:
        for tariff, gates in zip(batch, plan, strict=True):
            total += int((tariff.served_flops_BN * gates).sum())
            units = len(tariff.setup_flops_U)
            for unit in range(units):
                if gates[unit * tariff.group : (unit + 1) * tariff.group].any():
                    total += int(tariff.setup_flops_BU[:, unit].sum())
    return total


# --- the study ---------------------------------------------------------------------------------


def study(model: str, **changes: Any) -> ReallocationConfig:
    return ReallocationConfig.model_validate(
        {
            "model": model,
            "rows": 5,
            "batch_size": 3,
            "max_tokens": 20,
            "calibration_texts": 6,
            "reference_texts": 50,
            "block_size": 32,
            "budgets": [1.0, 0.5],
            "seeds": [0, 1],
            "markets": [
                {"mechanism": "uniform_price", "policies": ["taylor", "random"]},
                {"mechanism": "uniform"},
            ],
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, study(tiny_folder), tmp_path_factory.mktemp("runs") / "a", False))


def test_every_row_has_every_layer_value_and_setting(run: Run) -> None:
    table = run.table("reallocation")
    keys = ["mechanism", "policy", "budget_fraction", "setting", "seed", "row", "layer", "value"]
    assert not table.duplicated(keys).any()
    settings = {("taylor", "market"), ("taylor", "mask"), ("random", "market")}
    valued = table[table.mechanism == "uniform_price"]
    assert set(zip(valued.policy, valued.setting, strict=True)) == settings
    assert set(table[table.mechanism == "uniform"].setting) == {"market"}
    assert len(table) == 4 * 2 * 2 * 5 * 3 * 3  # arms, budgets, seeds, rows, layers + all, values
    assert set(table.layer) == {-1, 0, 1} and set(table.row) == set(range(5))


def test_shares_are_shares_and_even_is_a_fifth_at_most(run: Run) -> None:
    table = run.table("reallocation")
    shares = table[[f"share_{part}" for part in PARTS]].stack().dropna()
    assert shares.between(0, 1).all()
    # 18 ranked tokens in a full row: three of them are the top fifth.
    assert table.even.between(0.1, 0.2).all() and table.even.max() == pytest.approx(3 / 18)


def test_parts_add_up_exactly(run: Run) -> None:
    for name, measures in (
        ("reallocation", ["share"]),
        ("spread", ["entropy", "relative_entropy", "gini"]),
    ):
        table = run.table(name)
        for measure in measures:
            dense, composed, scarce = (table[f"{measure}_{part}"] for part in PARTS)
            parts = (composed - dense) + (scarce - composed)
            assert np.allclose(parts, scarce - dense, atol=1e-15, equal_nan=True)


def test_full_supply_moves_nothing_and_scarcity_does(run: Run) -> None:
    table = run.table("reallocation")
    full = table[(table.budget_fraction == 1) & (table.mechanism == "uniform_price")]
    assert (abs(full.share_scarce - full.share_dense) < 1e-7).all()
    assert (abs(full.share_composed - full.share_dense) < 1e-12).all()
    assert (abs(full.loss - full.loss_dense) < 1e-6).all()
    scarce = table[(table.budget_fraction == 0.5) & (table.layer == -1)]
    moved = (scarce.share_scarce - scarce.share_dense).abs()
    assert moved.mean() > 1e-4 and (scarce.loss > scarce.loss_dense).all()
    # The first layer sees the same inputs whatever the gates: nothing changes within its heads.
    first = table[table.layer == 0]
    assert np.allclose(first.share_scarce, first.share_composed, atol=1e-6, equal_nan=True)


def test_a_layers_shares_follow_from_the_model(run: Run, tiny_folder: str) -> None:
    """One dense share, taken once more with nothing but the model and loops."""
    from agent_economy.zoo import load
    from simulations.reallocation.texts import Texts

    config = study(tiny_folder)
    loaded = load(tiny_folder, attn_implementation="eager")
    batch = Texts(config, loaded.tokenizer, 64, lambda *a, **k: None).measured(1)[0]
    with torch.no_grad():
        attention = loaded.model(**batch, output_attentions=True).attentions[1][0]
    reference = Texts(config, loaded.tokenizer, 64, lambda *a, **k: None).reference()
    ids = batch["input_ids"][0].tolist()
    length = int(batch["attention_mask"][0].sum())
    held = {token: sum(token in text for text in reference) for token in ids}
    inner = range(1, length - 1)  # between [CLS] and [SEP]
    best = sorted(inner, key=lambda k: (held[ids[k]], k))[: (length - 2) // 5]
    received = [sum(float(attention[h, q, k]) for h in range(4) for q in range(length))
                for k in range(length)]  # fmt: skip
    expected = sum(received[k] for k in best) / sum(received[k] for k in inner)
    table = run.table("reallocation")
    found = table[
        (table.seed == 1) & (table.row == 0) & (table.layer == 1) & (table.value == "idf")
    ]
    assert found.share_dense.nunique() == 1
    assert found.share_dense.iloc[0] == pytest.approx(expected, rel=1e-5)


def test_masks_spend_what_the_market_spent(run: Run) -> None:
    metrics = run.table("metrics")
    scarce = metrics[metrics.budget_fraction == 0.5]
    spent = scarce[scarce.policy == "taylor"].pivot_table(
        index="mechanism", columns="metric", values="value"
    ).loc["uniform_price"]  # fmt: skip
    assert 0.4 < spent.mask_flops_fraction <= spent.flops_fraction <= 0.5
    assert -1 <= spent.mask_utility < 1 and spent.utility < 1
    full = metrics[(metrics.budget_fraction == 1) & (metrics.metric == "mask_utility")]
    assert np.allclose(full.value, 1)


def test_same_seed_same_bytes_and_rows_of_seeds_differ(
    run: Run, tiny_folder: str, tmp_path: Path
) -> None:
    again = execute(SCENARIO, study(tiny_folder), tmp_path / "b", False)
    for table in ("reallocation", "spread", "metrics"):
        assert (run.path / f"{table}.parquet").read_bytes() == (
            again / f"{table}.parquet"
        ).read_bytes()
    spread = run.table("spread")
    dense = spread[spread.layer == -1].groupby(["seed", "row"]).entropy_dense.nunique()
    assert (dense == 1).all() and len(dense) == 10
    assert spread[spread.layer == -1].entropy_dense.nunique() == 10


def test_what_a_policy_learns_stays_in_its_cell(tiny_folder: str) -> None:
    """A bandit that ran a cell before bids no other than one that did not."""
    markets = [{"mechanism": "uniform_price", "policies": ["bandit"]}]
    config = study(tiny_folder, markets=markets, budgets=[0.7, 0.5], seeds=[0])
    session = SCENARIO.open(config, lambda *a, **k: None)
    one, other = SCENARIO.cells(config)
    first = SCENARIO.run_cell(session, one)["reallocation"]
    SCENARIO.run_cell(session, other)
    pd.testing.assert_frame_equal(SCENARIO.run_cell(session, one)["reallocation"], first)


def test_a_labelled_task_keeps_every_rows_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_labelled import task_folder

    task_folder(tmp_path)
    monkeypatch.setenv("AGENT_ECONOMY_DATA", str(tmp_path))
    (tmp_path / "model").mkdir()
    model = write_tiny(tmp_path / "model", BertForSequenceClassification, num_labels=1)
    config = study(model, task="stsb", budgets=[0.5], max_tokens=48)
    found = Run(execute(SCENARIO, config, tmp_path / "run", False))
    for name in ("examples", "mask_examples", "dense"):
        table = found.table(name)
        assert table.label.between(0, 5).all() and table.prediction.nunique() > 1
        assert np.allclose(table.loss, (table.prediction - table.label) ** 2, atol=1e-4)
    shares = found.table("reallocation")
    merged = shares[shares.setting == "market"].merge(
        found.table("examples").rename(columns={"example": "row", "loss": "own"})
    )
    assert len(merged) and np.allclose(merged.loss, merged.own)


def test_a_decoder_is_measured_by_perplexity(tmp_path: Path) -> None:
    folder = Path(write_tiny(tmp_path, BertForSequenceClassification))
    (folder / "model.safetensors").unlink()
    vocabulary = len((folder / "vocab.txt").read_text().splitlines())
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=80, max_position_embeddings=64,
        initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    markets = [{"mechanism": "posted_price", "policies": ["taylor", "random"]}]
    config = study(str(folder), budgets=[0.6], markets=markets, warm_up=1)
    found = Run(execute(SCENARIO, config, folder / "run", False))
    dense = found.table("dense")
    assert dense.tokens.between(1, 19).all() and dense.label.isna().all()
    shares = found.table("reallocation")
    rows = shares.merge(dense.rename(columns={"example": "row", "loss": "summed"}))
    assert len(rows) and np.allclose(rows.loss_dense, rows.summed / rows.tokens)
    with pytest.raises(EconomyError, match="looks at later tokens"):
        execute(SCENARIO, study(str(folder)), folder / "bad", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": ["salience"]}, "did you mean 'saliency'"),
        ({"values": ["idf", "idf"]}, "listed twice"),
        ({"budgets": [0.5, 0.5]}, "listed twice"),
        ({"markets": [{"mechanism": "uniform_prize"}]}, "did you mean 'uniform_price'"),
        ({"markets": [{"mechanism": "uniform", "policies": ["tailor"]}]}, "did you mean 'taylor'"),
        ({"task": "stsb"}, "has no head for task 'stsb'"),
        ({"task": "wikitext2"}, "predicts no next token"),
        ({"rows": 100_000}, "lower rows"),
    ],
)
def test_bad_configs_are_one_line(
    tiny_folder: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, study(tiny_folder, **change), tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_the_committed_configs_are_read() -> None:
    from agent_economy.runs.config import load_toml

    paths = sorted(SCENARIO.default_toml().parent.glob("*.toml"))
    assert SCENARIO.default_toml() in paths
    for path in paths:
        config = load_toml(ReallocationConfig, path, [])
        cells = pd.DataFrame(SCENARIO.cells(config))
        assert not cells.duplicated().any() and "random" in set(cells.policy), path.name
        assert path.read_text().startswith("# Claim: "), path.name
