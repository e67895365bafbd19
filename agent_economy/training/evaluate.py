"""Score a model under its economy, honestly: hard gates, what was really spent beside the budget.

Padding is no spend, the market's own FLOPs are. Where a mechanism promises to keep to the budget,
every forward was checked by the market itself; where it only aims at it (a fixed price), the spend
over the whole set may exceed the budget by `TOLERANCE` and not by more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from agent_economy.costs.rates import PS_PER_MS
from agent_economy.errors import EconomyError
from agent_economy.executors.masked import token_mask
from agent_economy.metrics.reallocation import layer_sums, row_gini
from agent_economy.runs.files import write_atomic
from agent_economy.tasks.data import TaskData
from agent_economy.tasks.scores import score
from agent_economy.tasks.utility import Perplexity
from agent_economy.training.batches import Rows, in_order

if TYPE_CHECKING:
    from agent_economy.economy import Economy
    from agent_economy.receipt import Receipt

TOLERANCE = 0.005
"""Share of the budget by which a price may miss it over an evaluation set."""

BATCH_SIZE = 32


class Tables(NamedTuple):
    """What an evaluation leaves for the statistics.

    Attributes:
        predictions: row, prediction, label; of texts the summed negative log-likelihood and the
            number of tokens it is summed over.
        attention: row, layer, entropy_nats, gini; gate-weighted, special tokens included.
    """

    predictions: pd.DataFrame
    attention: pd.DataFrame


@torch.no_grad()
def evaluate(
    economy: Economy, rows: Rows, data: TaskData, *, attention: bool = True
) -> tuple[dict[str, Any], Tables]:
    """The score of a part of a task, and what it took.

    Args:
        economy: with hard gates (no temperature).
        rows: the encoded part.
        data: its labels and metric.
        attention: whether to measure how attention is spread, which takes eager attention.

    Returns:
        ``metric, score, n, flops_per_token, flops_fraction, budget_fraction, spend_fraction,
        market_fraction`` and the tables. ``flops_per_token`` counts fixed FLOPs (task head), too;
        ``flops_fraction`` is agents' FLOPs over the dense agents'; ``spend_fraction`` is spend over
        supply, in FLOPs or, where agents are charged them, milliseconds, and then there are
        ``agents_ms_per_example`` and ``agents_ms_fraction``, too, as the table of latencies has it.

    Raises:
        EconomyError: spend exceeds the budget, or the model's outputs are not numbers.
    """
    assert economy.market.temperature is None
    economy.eval()
    device = next(economy.model.parameters()).device
    guess = np.zeros(len(rows))
    spent = dense = fixed = market = tokens = charged = whole = 0
    found: list[pd.DataFrame] = []
    ask = {"output_attentions": True} if attention else {}
    kernel = economy.model.config._attn_implementation
    if attention:
        economy.model.set_attn_implementation("eager")
    try:
        for chosen in in_order(rows.lengths_B, BATCH_SIZE):
            inputs, _ = rows.batch(chosen, device)
            output = economy(**inputs, **ask)
            receipt = output.receipt
            found_B = _guess(output, inputs, data)
            if not torch.isfinite(found_B).all():
                raise EconomyError(
                    "the model's outputs are not numbers; train it again at a lower rate"
                )
            guess[chosen] = found_B.double().cpu().numpy()
            spent, dense = spent + receipt.spend_flops, dense + receipt.dense_flops
            fixed, market = fixed + receipt.fixed_flops, market + receipt.market_flops
            charged, whole = charged + receipt.charged, whole + receipt.dense_charge
            tokens += int(token_mask(inputs).sum())
            if attention:
                causal = economy.adapter.shape.causal
                found.append(_attention(output.attentions, receipt, chosen, causal=causal))
    finally:
        if attention:
            economy.model.set_attn_implementation(kernel)
    budget = economy.market.budget_fraction
    fraction = charged / whole
    _check(economy, fraction, budget)
    result = {
        "metric": data.metric,
        "score": _score(data, guess, rows),
        "n": len(rows),
        "flops_per_token": round((spent + fixed) / tokens, 1),
        "flops_fraction": spent / dense,
        "budget_fraction": budget,
        "spend_fraction": fraction / budget,
        "market_fraction": market / dense,
    }
    if receipt.in_ms:
        result["agents_ms_per_example"] = charged / PS_PER_MS / len(rows)
        result["agents_ms_fraction"] = fraction
    label = rows.lengths_B - 1.0 if data.metric == "perplexity" else data.labels.astype(float)
    predictions = pd.DataFrame({"row": np.arange(len(rows)), "prediction": guess, "label": label})
    columns = ["row", "layer", "entropy_nats", "gini"]
    spread = (
        pd.concat(found).sort_values(["row", "layer"])
        if found
        else pd.DataFrame([], columns=columns)
    )
    return result, Tables(predictions, spread.reset_index(drop=True))


def _guess(output: Any, inputs: dict[str, torch.Tensor], data: TaskData) -> torch.Tensor:
    """Each row's value, class or, of a text, negative log-likelihood summed over its tokens."""
    if data.metric == "perplexity":
        return Perplexity().examples(output, inputs, output.logits).loss_B
    logits: torch.Tensor = output.logits
    if not torch.isfinite(logits).all():
        return torch.full((len(logits),), torch.nan)
    return logits.squeeze(-1) if data.regression else logits.argmax(-1)


def _score(data: TaskData, guess: np.ndarray[Any, Any], rows: Rows) -> float:
    """The task's score; of texts the perplexity, where lower is better."""
    if data.metric == "perplexity":
        return float(np.exp(guess.sum() / (rows.lengths_B - 1).sum()))
    return score(data.metric, guess, data.labels)


def _check(economy: Economy, fraction: float, budget: float) -> None:
    """A mechanism that promises nothing forward by forward is held to the whole set."""
    if economy.market.plan_YN is not None or economy.market.mechanism.guarantees.feasible:
        return  # every forward was checked
    if fraction > budget * (1 + TOLERANCE):
        raise EconomyError(
            f"spend over the set is {fraction:.4f} of dense, {fraction / budget - 1:.1%} "
            f"above the budget {budget:g}; give a larger --budget, or let the price be set again"
        )


def _attention(
    attentions: tuple[torch.Tensor, ...],
    receipt: Receipt,
    chosen: np.ndarray[Any, Any],
    *,
    causal: bool,
) -> pd.DataFrame:
    """Entropy of served (query, head) pairs and Gini of what tokens receive, row by row."""
    parts = []
    for layer, attention_BHLL in enumerate(attentions):
        heads = attention_BHLL.shape[1]
        gate_BLH = receipt.allocation_BLN(layer)[..., :heads]
        sums = layer_sums(attention_BHLL, gate_BLH, receipt.mask_BL, causal=causal)
        parts.append(
            pd.DataFrame(
                {
                    "row": chosen,
                    "layer": layer,
                    "entropy_nats": sums.entropy.cpu().numpy(),
                    "gini": row_gini(sums.received_BL, receipt.mask_BL).cpu().numpy(),
                }
            )
        )
    return pd.concat(parts)


def write_tables(folder: Path, tables: dict[str, Tables]) -> None:
    """``predictions.parquet`` and ``attention.parquet`` of all parts, atomically."""
    for name in Tables._fields:
        parts = [getattr(table, name).assign(part=part) for part, table in tables.items()]
        whole = pd.concat(parts, ignore_index=True)
        columns = ["part", *(column for column in whole.columns if column != "part")]
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        whole[columns].to_parquet(temporary, index=False)
        write_atomic(folder / f"{name}.parquet", temporary.read_bytes())
        temporary.unlink()
