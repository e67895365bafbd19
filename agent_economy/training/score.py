"""Score a saved model on a task: ``agent-economy eval``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from agent_economy.adapters import adapter_for
from agent_economy.config import EconomyConfig, MechanismConfig, Named, WalletConfig
from agent_economy.devices import ON_THE_CPU, one_line_if_out_of_memory
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError, unknown
from agent_economy.latencies import latency_config
from agent_economy.policies.learned import LearnedPolicy
from agent_economy.rivals import Allowance
from agent_economy.runs.files import names_in, write_atomic
from agent_economy.runs.manifest import environment, now
from agent_economy.runs.reader import COMPLETE
from agent_economy.training.batches import Rows, encode_rows, in_order, row_limit
from agent_economy.training.classifier import load_for
from agent_economy.training.clock import latency, runner
from agent_economy.training.evaluate import BATCH_SIZE, Tables, evaluate, write_tables
from agent_economy.training.folder import FINETUNE_RECORD, TRAIN_RECORD
from agent_economy.training.methods.posting import POSTING_ROWS, post_price
from agent_economy.training.methods.standing import standing_plan
from agent_economy.training.parts import (
    DEVELOPMENT,
    TRAIN,
    all_parts,
    load_part,
    read_part,
    scored_parts,
)
from agent_economy.training.settings import FinetuneSettings, TrainSettings

if TYPE_CHECKING:
    from agent_economy.tasks.data import TaskData

EXECUTORS = ("masked", "routed", "compacted")
RULES = "economy.json"


@one_line_if_out_of_memory(ON_THE_CPU)
def score_folder(
    model_dir: Path,
    task: str,
    *,
    file: Path | None = None,
    executor: str = "masked",
    budget: float | None = None,
    budget_ms: float | None = None,
    table: Path | None = None,
    compiled: bool = False,
    batch_size: int = BATCH_SIZE,
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
        budget_ms: the same in milliseconds, for a forward of the layers on 32 rows of average
            length, or of whatever size the model was trained for milliseconds at.
        table: measured latencies, for a model that was trained for FLOPs; None: what
            `agent-economy bench latency` left.
        compiled: time the compacted and the dense model as ``torch.compile`` makes them.
        batch_size: rows of the batches that are timed.
        data_dir: the data folder; None takes ``AGENT_ECONOMY_DATA``, then the hub.
        out: leave the record and the tables of a training's folder there, so that a frontier can
            hold one model at many budgets.

    Returns:
        ``task, metric, score, n, flops_per_token, flops_fraction, latency_ms_per_example,
        latency_ratio_vs_dense, executor, budget_fraction, spend_fraction, seed`` (of the training,
        where there was one); where agents are charged milliseconds, what they were charged per
        example and its share of dense as well; ``compiled`` and ``batch_size`` where asked for.

    Raises:
        EconomyError: bad input, in one line; spend above the budget.
    """
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if compiled and executor != "compacted":
        raise EconomyError("--compile is for --executor compacted; add that or leave it out")
    if batch_size < 1:
        raise EconomyError(f"--batch-size {batch_size}: give at least 1")
    record = training_record(model_dir)
    kept = _kept_apart(record, task)
    if file:
        parts = {DEVELOPMENT: read_part(task, file)}
    elif out is None:
        parts = {DEVELOPMENT: load_part(task, "validation", data_dir)}
    else:  # a cell of a frontier is scored on the parts that its neighbours are scored on
        parts = all_parts(task, kept, data_dir)
        parts = {name: parts[name] for name in scored_parts(parts)}
    data = next(iter(parts.values()))
    economy, encode = founded(model_dir, data, record)
    rows_of = {name: encode(of) for name, of in parts.items()}
    rows = next(iter(rows_of.values()))
    if budget_ms is not None:
        budget = _share_of(economy, budget_ms, budget, rows, table)
    if budget is not None and (budget_ms or budget != economy.market.budget_fraction):
        lengths_B = np.concatenate([each.lengths_B for each in rows_of.values()])
        clear_at(economy, budget, lengths_B, lambda: encode(all_parts(task, kept, data_dir)[TRAIN]))
    # What is left of a compacted model attends by other heads than the tables have columns for.
    attention = out is not None and economy.adapter.present is None
    found = {
        name: evaluate(economy, rows_of[name], of, attention=attention)
        for name, of in parts.items()
    }
    result = next(iter(found.values()))[0]
    if out is not None:
        _write(out, task, found)
    fast = runner(economy, executor, compiled=compiled)
    ms, ratio = latency(economy, fast, rows, batch_size=batch_size)
    keys = ("metric", "score", "n", "flops_per_token", "flops_fraction")
    clock = ("agents_ms_per_example", "agents_ms_fraction")
    return {
        "task": task,
        **{key: result[key] for key in keys},
        "latency_ms_per_example": round(ms, 4),
        "latency_ratio_vs_dense": round(ratio, 4),
        "executor": executor,
        "budget_fraction": result["budget_fraction"],
        "spend_fraction": result["spend_fraction"],
        "seed": record.get("settings", {}).get("seed", economy.config.seed),
        **{key: result[key] for key in clock if key in result},
        **({"compiled": True} if compiled else {}),
        **({"batch_size": batch_size} if batch_size != BATCH_SIZE else {}),
    }


def founded(
    folder: Path, data: TaskData, record: dict[str, Any]
) -> tuple[Economy, Callable[[TaskData], Rows]]:
    """A folder's economy on the device that is here, and how it reads a part of the data.

    Args:
        folder: as in ``score_folder``.
        data: of the task.
        record: of the training that made the model.
    """
    loaded = load_for(str(folder), data)
    model: Any = loaded.model
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    economy = saved_economy(folder, model)
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = row_limit(
        loaded.tokenizer, positions, data.sentences2 is not None, record.get("max_tokens")
    )
    return economy, lambda of: encode_rows(loaded.tokenizer, of, limit)


def _share_of(
    economy: Economy, budget_ms: float, budget: float | None, rows: Rows, table: Path | None
) -> float:
    """A budget in milliseconds as a share; an economy that traded FLOPs trades time from now on."""
    if budget is not None:
        raise EconomyError("--budget and --budget-ms say the same thing twice; leave one out")
    if economy.config.latency is None:
        found = latency_config(
            economy.adapter.shape,
            rows=BATCH_SIZE,
            length=max(1, round(float(rows.lengths_B.mean()))),
            device=economy.population.device.type,
            table=table,
        )
        economy.set_latency(found)
    return economy.budget_share(budget_ms)


def training_record(folder: Path) -> dict[str, Any]:
    """What the training that made a model wrote down; empty where the model is of no training.

    Raises:
        EconomyError: the record is damaged.
    """
    for name in (TRAIN_RECORD, FINETUNE_RECORD):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise EconomyError(
                f"{path} is damaged ({' '.join(str(error).split())}); make the model anew"
            ) from error
        if not isinstance(found, dict) or not isinstance(found.get("settings", {}), dict):
            raise EconomyError(f"{path} is no record of a training; make the model anew")
        return found
    return {}


def _kept_apart(record: dict[str, Any], task: str) -> TrainSettings | FinetuneSettings:
    """What the training that made a model took of the training part."""
    found = record.get("settings")
    if found is None:
        return FinetuneSettings(task=task)
    kind = TrainSettings if "method" in found else FinetuneSettings
    try:
        settings: TrainSettings | FinetuneSettings = kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise EconomyError(
            f"the record of this model's training has a {where!r} that is not known here "
            f"({first['msg']}); make the model anew"
        ) from error
    return settings


def _write(out: Path, task: str, found: dict[str, tuple[dict[str, Any], Tables]]) -> None:
    """What `train` leaves of a model's scores, the model itself apart."""
    if names_in(out) - {TRAIN_RECORD, "predictions.parquet", "attention.parquet"}:
        raise EconomyError(f"{out} holds other files; choose another -o")
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, {part: tables for part, (_, tables) in found.items()})
    first = next(iter(found.values()))[0]
    record = {
        "status": COMPLETE,
        "task": task,
        **{key: first[key] for key in ("metric", "score", "n")},
        **{key: first[key] for key in ("budget_fraction", "spend_fraction")},
        "parts": {part: result for part, (result, _) in found.items()},
        **environment(),
        "ended": now(),
    }
    write_atomic(out / TRAIN_RECORD, json.dumps(record, indent=2) + "\n")


def saved_economy(folder: Path, model: Any) -> Economy:
    """The folder's economy; a dense model is one in which compute is not scarce."""
    if (folder / RULES).is_file():
        return Economy.from_pretrained(folder, model=model)
    compacted = getattr(model.config, "compaction", None)
    if compacted is not None:
        block_size = compacted["block_size"]
    else:
        block_size = min(EconomyConfig().block_size, adapter_for(model, 1).shape.ffn)
    config = EconomyConfig(
        block_size=block_size,
        mechanism=MechanismConfig(name="uniform"),
        policy=Named(name="constant"),
        wallet=WalletConfig(income=Named(name="flat")),
    )
    return Economy.from_model(model, config)


def clear_at(
    economy: Economy,
    budget: float,
    lengths_B: np.ndarray[Any, np.dtype[np.int64]],
    training_rows: Callable[[], Rows],
) -> None:
    """Change the budget of a trained economy: clear its valuations anew.

    Args:
        economy: whose agents have valuations of their own.
        budget: what agents are charged over what all of them would be.
        lengths_B: of the rows that a static plan has to keep to the budget on.
        training_rows: what a price is set on.

    Raises:
        EconomyError: the model was trained for one plan, by a rival or for no budget at all.
    """
    market = economy.market
    market.budget_fraction = budget
    if market.plan_YN is None and market.mechanism.guarantees.feasible:
        return  # it keeps to any supply by itself
    (policy,) = economy.policies if len(economy.policies) == 1 else (None,)
    if not isinstance(policy, LearnedPolicy):
        raise EconomyError(
            "the model in this folder has no valuations to clear at another --budget; leave it out "
            "or train one with --method market"
        )
    if market.plan_YN is None:
        own = training_rows()
        chosen = np.random.default_rng(0).permutation(len(own))[:POSTING_ROWS]
        device = economy.population.device
        batches = [
            own.batch(chosen[places], device)[0]
            for places in in_order(own.lengths_B[chosen], BATCH_SIZE)
        ]
        post_price(economy, batches, budget * 0.996)
        return
    allowance = Allowance.of(
        economy.adapter.shape,
        economy.population.layers,
        budget,
        int(lengths_B.max()),
        shortest=int(lengths_B.min()),
        pooled=market.reading.pooled,
    )
    market.plan_YN = standing_plan(policy, budget, allowance).to(economy.population.device)
