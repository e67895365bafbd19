"""The plan of greatest total score within an allowance, exactly.

Heads all cost the same, units all cost the same, and so do blocks of one size, so a plan's FLOPs
depend on how many of each it takes and its score is best when it takes the best of each (Kwon et
al. 2022, algorithm 1, for heads and neurons). All counts are tried:

1. a table of the best score of ``h`` heads in ``u`` open units, by dynamic programming over units
   (with one head a unit: the sum of the ``h`` best heads);
2. for every entry and every number of odd (smaller) blocks, as many whole blocks as still fit.

O(heads * units^2 * group) for the table, O(heads * units * odd blocks) for the search.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.rivals.allowance import Allowance


def best_plan(score_YN: Float[Tensor, "Y N"], allowance: Allowance) -> Bool[Tensor, "Y N"]:
    """The plan of the greatest sum of scores that the allowance lets pass.

    Args:
        score_YN: what each agent is worth; below 0 counts as 0.
        allowance: what may be spent.
    """
    score = score_YN.double().clamp(min=0).numpy(force=True)
    fee = allowance.fee_agents
    table, choices = _heads(score[:, :fee].reshape(-1, allowance.group))
    served_RN, most_R = allowance.served_flops_RN.numpy(), allowance.most_flops_R.numpy()
    head_R, unit_R = served_RN[:, 0], allowance.setup_flops_RU[:, 0].numpy()
    # Blocks by size: whole ones first; at most one a layer is smaller.
    odd = np.zeros(served_RN.shape[1], dtype=bool)
    odd[fee:] = (served_RN[:, fee:] != served_RN[:, fee : fee + 1]).any(0)
    whole = ~odd
    whole[:fee] = False
    order_whole, sum_whole = _best(score[:, whole])
    order_odd, sum_odd = _best(score[:, odd])
    odd_R = served_RN[:, odd][:, 0] if odd.any() else np.zeros(2, dtype=np.int64)

    heads, units, odds = np.ogrid[: table.shape[0], : table.shape[1], : len(sum_odd)]
    fits = np.full(np.broadcast_shapes(heads.shape, units.shape, odds.shape), len(sum_whole) - 1)
    for row in range(2):
        left = most_R[row] - heads * head_R[row] - units * unit_R[row] - odds * odd_R[row]
        # A negative rest floors to below 0: that combination does not fit at all.
        fits = np.minimum(fits, left // served_RN[row, whole][0])
    value = table[..., None] + sum_odd + sum_whole[np.maximum(fits, 0)]
    h, u, r = np.unravel_index(np.where(fits >= 0, value, -np.inf).argmax(), value.shape)

    plan = np.zeros(score.shape, dtype=bool)
    heads_UG = _taken(score[:, :fee].reshape(-1, allowance.group), choices, int(h), int(u))
    plan[:, :fee] = heads_UG.reshape(len(score), fee)
    for chosen, order, count in ((whole, order_whole, fits[h, u, r]), (odd, order_odd, r)):
        part = np.zeros(len(order), dtype=bool)
        part[order[:count]] = True
        plan[:, chosen] = part.reshape(len(score), -1)
    return torch.from_numpy(plan)


def _best(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places from the best to the worst, and the sums of the best 0, 1, 2, ..."""
    flat = score.ravel()
    order = np.argsort(-flat, kind="stable")
    return order, np.concatenate(([0.0], np.cumsum(flat[order])))


def _heads(score_UG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best score of ``h`` heads in ``u`` units, and how many heads each unit gave to it."""
    units, group = score_UG.shape
    best_UG = np.sort(score_UG, 1)[:, ::-1].cumsum(1)
    table = np.full((units * group + 1, units + 1), -np.inf)
    table[0, 0] = 0.0
    choices = np.zeros((units, *table.shape), dtype=np.int8)
    for unit in range(units):
        before = table.copy()
        for taken in range(1, group + 1):
            tried = before[:-taken, :-1] + best_UG[unit, taken - 1]
            better = tried > table[taken:, 1:]
            table[taken:, 1:][better] = tried[better]
            choices[unit, taken:, 1:][better] = taken
    return table, choices


def _taken(score_UG: np.ndarray, choices: np.ndarray, heads: int, units: int) -> np.ndarray:
    """The heads behind one entry of the table."""
    taken = np.zeros(score_UG.shape, dtype=bool)
    for unit in range(len(score_UG) - 1, -1, -1):
        count = int(choices[unit, heads, units])
        if count:
            taken[unit, np.argsort(-score_UG[unit], kind="stable")[:count]] = True
            heads, units = heads - count, units - 1
    return taken
