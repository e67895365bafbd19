"""Score a saved model on a task: ``agent-economy eval``."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agent_economy.adapters import adapter_for
from agent_economy.config import EconomyConfig, MechanismConfig, Named
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError, unknown
from agent_economy.policies.learned import LearnedPolicy
from agent_economy.rivals import Allowance
from agent_economy.runs.files import names_in, write_atomic
from agent_economy.runs.manifest import environment, now
from agent_economy.runs.reader import COMPLETE
from agent_economy.training.batches import Rows, encode_rows, in_order, row_limit
from agent_economy.training.classifier import load_for
from agent_economy.training.evaluate import BATCH_SIZE, Tables, evaluate, write_tables
from agent_economy.training.folder import FINETUNE_RECORD, TRAIN_RECORD
from agent_economy.training.methods.per_token import post_price
from agent_economy.training.methods.standing import standing_plan
from agent_economy.training.parts import load_part, read_part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXECUTORS = ("masked", "routed", "compacted")
RULES = "economy.json"
_ROUNDS, _TIMED = 7, 4
"""Interleaved rounds, and batches of a round, of a latency reading."""
_POSTING_ROWS = 2048
_SETTLING = 16
"""Rounds before the readings, in which a routed executor finds its path."""

Run = Callable[[dict[str, Any]], Any]


def score_folder(
    model_dir: Path,
    task: str,
    *,
    file: Path | None = None,
    executor: str = "masked",
    budget: float | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """What a model gets right, what it spends and how long it takes.

    Args:
        model_dir: a folder of ``train`` or of ``finetune``, or any model's alias, folder or id (a
            dense model: budget 1).
        task: ``stsb``, ``cola``, ``sst2``, ``mnli``; ``wikitext2`` for decoders.
        file: score this file, in the task's local format, instead of the development part.
        executor: ``masked``, ``routed`` or ``compacted``; they agree on outputs and FLOPs.
        budget: clear at another budget than the saved one.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
        out: leave the record and the tables of a training's folder there, so that a frontier can
            hold one model at many budgets.

    Returns:
        ``task, metric, score, n, flops_per_token, flops_fraction, latency_ms_per_example,
        latency_ratio_vs_dense, executor, budget_fraction, spend_fraction, seed``.

    Raises:
        EconomyError: bad input, in one line; spend above the budget.
    """
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    data = read_part(task, file) if file else load_part(task, "validation", data_dir)
    loaded = load_for(str(model_dir), data)
    model: Any = loaded.model
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    economy = saved_economy(model_dir, model)
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    limit = row_limit(
        loaded.tokenizer, positions, data.sentences2 is not None, _max_tokens(model_dir)
    )
    rows = encode_rows(loaded.tokenizer, data, limit)
    if budget is not None and budget != economy.market.budget_fraction:
        clear_at(economy, budget, rows, lambda: _training_rows(task, loaded.tokenizer, data_dir))
    result, tables = evaluate(economy, rows, data, attention=out is not None)
    if out is not None:
        _write(out, task, result, tables)
    fast = _executor(economy, executor)
    ms, ratio = latency(economy, fast, rows, settles=executor == "routed")
    keys = ("metric", "score", "n", "flops_per_token", "flops_fraction")
    return {
        "task": task,
        **{key: result[key] for key in keys},
        "latency_ms_per_example": round(ms, 4),
        "latency_ratio_vs_dense": round(ratio, 4),
        "executor": executor,
        "budget_fraction": result["budget_fraction"],
        "spend_fraction": result["spend_fraction"],
        "seed": economy.config.seed,
    }


def _max_tokens(model_dir: Path) -> int | None:
    """The longest row that the model was trained on, where a training says so."""
    for name in (TRAIN_RECORD, FINETUNE_RECORD):
        if (model_dir / name).is_file():
            return int(json.loads((model_dir / name).read_text("utf-8"))["max_tokens"])
    return None


def _write(out: Path, task: str, result: dict[str, Any], tables: Tables) -> None:
    """What `train` leaves of a model's scores, the model itself apart."""
    if names_in(out) - {TRAIN_RECORD, "predictions.parquet", "attention.parquet"}:
        raise EconomyError(f"{out} holds other files; choose another -o")
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, {"development": tables})
    record = {
        "status": COMPLETE,
        "task": task,
        **{key: result[key] for key in ("metric", "score", "n")},
        **{key: result[key] for key in ("budget_fraction", "spend_fraction")},
        "parts": {"development": result},
        **environment(),
        "ended": now(),
    }
    write_atomic(out / TRAIN_RECORD, json.dumps(record, indent=2) + "\n")


def saved_economy(folder: Path, model: Any) -> Economy:
    """The folder's economy; a dense model is one in which compute is not scarce."""
    if (folder / RULES).is_file():
        return Economy.from_pretrained(folder, model=model)
    block_size = min(EconomyConfig().block_size, adapter_for(model, 1).shape.ffn)
    config = EconomyConfig(
        block_size=block_size,
        mechanism=MechanismConfig(name="uniform"),
        policy=Named(name="constant"),
    )
    return Economy.from_model(model, config)


def clear_at(
    economy: Economy, budget: float, rows: Rows, training_rows: Callable[[], Rows]
) -> None:
    """Change the budget of a trained economy: clear its valuations anew.

    Args:
        economy: whose agents have valuations of their own.
        budget: agent FLOPs over dense ones.
        rows: what a static plan has to keep to the budget on.
        training_rows: what a price is set on.

    Raises:
        EconomyError: the model was trained for one plan, by a rival or for no budget at all.
    """
    market = economy.market
    market.budget_fraction = budget
    (policy,) = economy.policies if len(economy.policies) == 1 else (None,)
    if not isinstance(policy, LearnedPolicy):
        raise EconomyError(
            "the model in this folder has no valuations to clear at another --budget; leave it out "
            "or train one with --method market"
        )
    if market.plan_YN is None:
        own = training_rows()
        chosen = np.random.default_rng(0).permutation(len(own))[:_POSTING_ROWS]
        batches = [
            own.batch(chosen[places])[0] for places in in_order(own.lengths_B[chosen], BATCH_SIZE)
        ]
        post_price(economy, batches, budget * 0.996)
        return
    lengths_B = rows.lengths_B
    allowance = Allowance.of(
        economy.adapter.shape,
        economy.population.layers,
        budget,
        int(lengths_B.max()),
        shortest=int(lengths_B.min()),
        pooled=market.reading.pooled,
    )
    market.plan_YN = standing_plan(policy, budget, allowance).to(economy.population.device)


def _training_rows(task: str, tokenizer: PreTrainedTokenizerBase, data_dir: Path | None) -> Rows:
    data = load_part(task, "train", data_dir)
    return encode_rows(
        tokenizer, data, row_limit(tokenizer, None, data.sentences2 is not None, 128)
    )


def _executor(economy: Economy, name: str) -> Run:
    """What runs a batch."""
    if name == "compacted":
        from agent_economy.compaction import shrink

        plan_YN = economy.market.plan_YN
        if plan_YN is None:
            raise EconomyError(
                "this model's allocation is not static, so it cannot run compacted; pass "
                "--executor routed, or compact it with `agent-economy compact --calibrate`"
            )
        small = shrink(economy.adapter, plan_YN, first_only=economy.market.reading.pooled).eval()
        return lambda batch: small(**batch)
    if name == "routed":
        from agent_economy.executors.routed import RoutedExecutor

        routed = RoutedExecutor(economy.adapter, masked=economy.executor)
        return lambda batch: routed.run(batch, economy.market)[0]
    return lambda batch: economy(**batch)


@torch.no_grad()
def latency(
    economy: Economy, fast: Run, rows: Rows, *, settles: bool = False
) -> tuple[float, float]:
    """Median milliseconds per example, and the median over rounds of its ratio to dense.

    Batches of `BATCH_SIZE` rows of about equal length, spread over all lengths; dense and executor
    take turns, after one round that is not counted.
    """
    batches = in_order(rows.lengths_B, BATCH_SIZE)
    places = np.linspace(0, len(batches) - 1, min(_TIMED, len(batches))).round().astype(int)
    device = next(economy.model.parameters()).device
    taken = [
        {key: value.to(device) for key, value in rows.batch(batches[place])[0].items()}
        for place in places
    ]
    count = sum(len(batch["input_ids"]) for batch in taken)
    own, ratios = [], []
    # One round is not counted; an executor that tries its paths needs some more to choose.
    for _ in range(_SETTLING if settles else 0):
        with economy.trying():
            _seconds(fast, taken, device)
    dense = economy.model
    with economy.trying():
        for _ in range(_ROUNDS + 1):
            times = [_seconds(run, taken, device) for run in (fast, lambda batch: dense(**batch))]
            own.append(times[0] / count * 1e3)
            ratios.append(times[0] / times[1])
    return statistics.median(own[1:]), statistics.median(ratios[1:])


def _seconds(run: Run, batches: list[dict[str, Any]], device: torch.device) -> float:
    start = time.perf_counter()
    for batch in batches:
        run(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
