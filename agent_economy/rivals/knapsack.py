"""The plan of greatest total score within an allowance, exactly.

In layers that are served alike heads all cost the same, units all cost the same, and so do blocks
of one size, so a plan's FLOPs depend on how many of each it takes and its score is best when it
takes the best of each (Kwon et al. 2022, algorithm 1, for heads and neurons). There are up to six
kinds: heads, whole blocks and odd (smaller) blocks, of the last layer apart where only its first
token is served. All counts are tried:

1. for the heads a menu of the best scores of ``h`` heads in ``u`` open units, by dynamic
   programming over units (with one head a unit: the sum of the ``h`` best heads);
2. for every combination of counts of all kinds but one, as many whole blocks as still fit.

Rows of many lengths have to be paid for, but few of them bind: the best plan for some lengths is
checked at all, and the length that it overspends most joins them until there is none.

O(combinations) for each of a handful of lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.rivals.allowance import Allowance


class _Menu(NamedTuple):
    """Choices of how many agents of one kind to take, the best ones each time.

    Attributes:
        value_X: score of each choice.
        flops_RX: what it costs at each length.
        take: marks a choice's agents in a plan (Y, N).
    """

    value_X: np.ndarray
    flops_RX: np.ndarray
    take: Callable[[np.ndarray, int], None]


def best_plan(score_YN: Float[Tensor, "Y N"], allowance: Allowance) -> Bool[Tensor, "Y N"]:
    """The plan of the greatest sum of scores that the allowance lets pass.

    Args:
        score_YN: what each agent is worth; below 0 counts as 0.
        allowance: what may be spent.
    """
    score = score_YN.double().clamp(min=0).numpy(force=True)
    layers = len(score)
    split = layers - 1 if allowance.pooled else layers
    menus = [
        menu
        for part in (slice(0, split), slice(split, layers))
        if len(score[part])
        for menu in _menus(score, allowance, part)
    ]
    # As many whole blocks of the first layers as still fit.
    filler, rest = menus[0], menus[1:]
    unit_R = filler.flops_RX[:, 1]
    values = np.ix_(*(menu.value_X for menu in rest))
    value = reduce(np.add, values)
    fits = np.full(value.shape, len(filler.value_X) - 1)
    most_R = allowance.most_flops_R.numpy()

    def tighten(at: int) -> None:
        spent = reduce(np.add, np.ix_(*(menu.flops_RX[at] for menu in rest)))
        # A negative rest floors to below 0: that combination does not fit at all.
        np.minimum(fits, (most_R[at] - spent) // unit_R[at], out=fits)

    for at in {0, len(most_R) - 1}:
        tighten(at)
    while True:
        total = np.where(fits >= 0, value + filler.value_X[np.maximum(fits, 0)], -np.inf)
        choice = np.unravel_index(total.argmax(), total.shape)
        plan = np.zeros(score.shape, dtype=bool)
        filler.take(plan, int(fits[choice]))
        for menu, index in zip(rest, choice, strict=True):
            menu.take(plan, int(index))
        plan_YN = torch.from_numpy(plan)
        over_R = (allowance.spend_flops_R(plan_YN).numpy() - most_R) / unit_R
        if over_R.max() <= 0:
            return plan_YN
        tighten(int(over_R.argmax()))


def _menus(score: np.ndarray, allowance: Allowance, part: slice) -> list[_Menu]:
    """Whole blocks, heads, and odd blocks where there are any, of layers that are served alike."""
    fee = allowance.fee_agents
    served_RN = allowance.served_flops_RYN[:, part.start].numpy()
    # Blocks by size: whole ones first; at most one a layer is smaller.
    odd = np.zeros(served_RN.shape[1], dtype=bool)
    odd[fee:] = (served_RN[:, fee:] != served_RN[:, fee : fee + 1]).any(0)
    whole = ~odd
    whole[:fee] = False
    menus = [_best(score, part, whole, served_RN)]
    if fee:
        setup_R = allowance.setup_flops_RU[:, 0].numpy()
        menus.append(_heads(score, part, allowance.group, fee, served_RN[:, 0], setup_R))
    if odd.any():
        menus.append(_best(score, part, odd, served_RN))
    return menus


def _best(score: np.ndarray, part: slice, kind: np.ndarray, served_RN: np.ndarray) -> _Menu:
    """The best 0, 1, 2, ... agents of a kind that all cost the same."""
    flat = score[part][:, kind].ravel()
    order = np.argsort(-flat, kind="stable")

    def take(plan: np.ndarray, count: int) -> None:
        chosen = np.zeros(len(order), dtype=bool)
        chosen[order[:count]] = True
        plan[part, kind] = chosen.reshape(-1, int(kind.sum()))

    values = np.concatenate(([0.0], np.cumsum(flat[order])))
    flops_R1 = served_RN[:, kind][:, :1]
    return _Menu(values, flops_R1 * np.arange(len(values)), take)


def _heads(
    score: np.ndarray,
    part: slice,
    group: int,
    fee: int,
    head_R: np.ndarray,
    unit_R: np.ndarray,
) -> _Menu:
    """The best heads for every number of them and of the units that they open."""
    score_UG = score[part, :fee].reshape(-1, group)
    table, choices = _table(score_UG)
    heads_X, units_X = np.nonzero(np.isfinite(table))

    def take(plan: np.ndarray, index: int) -> None:
        taken = _taken(score_UG, choices, int(heads_X[index]), int(units_X[index]))
        plan[part, :fee] = taken.reshape(-1, fee)

    flops_RX = head_R[:, None] * heads_X + unit_R[:, None] * units_X
    return _Menu(table[heads_X, units_X], flops_RX, take)


def _table(score_UG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
