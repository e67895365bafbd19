"""What each agent contributes: leave-one-out, Shapley values by sampling, ratings over matches.

A *game* is a function from coalitions to what they are worth, row by row: every row of a batch may
try another coalition, so one forward pass evaluates as many as the batch has rows.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.metrics.regression import Estimate, fit_groups

#: (who takes part in each row (B, A)) -> what each row's coalition is worth (B,)
Game = Callable[[Tensor], Tensor]


def leave_one_out(game: Game, rows: int, agents: int) -> Float[Tensor, "B A"]:
    """What each row loses when one agent falls silent and all others stay: ``v(all) - v(all - n)``.

    Args:
        game: what coalitions are worth.
        rows: of the batch.
        agents: how many there are.

    Returns:
        One value per row and agent, after ``agents + 1`` evaluations.
    """
    everybody = torch.ones(rows, agents, dtype=torch.bool)
    whole_B = game(everybody).double()
    found_BA = whole_B.new_zeros(rows, agents)
    for agent in range(agents):
        without = everybody.clone()
        without[:, agent] = False
        found_BA[:, agent] = whole_B - game(without).double()
    return found_BA


def sampled_shapley(
    game: Game, rows: int, agents: int, generator: torch.Generator, *, reverse: bool = True
) -> Float[Tensor, "B A"]:
    """Marginal contributions along one random order per row, averaged with the reversed order.

    The Shapley value is the mean over all orders of what an agent adds to those before it; the
    mean of this over draws is unbiased (Castro, Gomez and Tejada 2009), and going through each
    order backwards too cancels much of its noise (Mitchell et al. 2022).

    Args:
        game: what coalitions are worth.
        rows: of the batch; each draws an order of its own.
        agents: how many there are.
        generator: of the orders.
        reverse: whether to go backwards too, at twice the evaluations.

    Returns:
        One value per row and agent; over each row they sum to ``v(all) - v(nobody)``.
    """
    order_BA = torch.rand(rows, agents, generator=generator).argsort(1)
    forward_BA = _along(game, order_BA)
    if not reverse:
        return forward_BA
    return (forward_BA + _along(game, order_BA.flip(1))) / 2


def _along(game: Game, order_BA: Tensor) -> Tensor:
    """What each agent adds to those before it in its row's order."""
    rows, agents = order_BA.shape
    present = torch.zeros(rows, agents, dtype=torch.bool)
    worth_B = game(present).double()
    found_BA = worth_B.new_zeros(rows, agents)
    for place in range(agents):
        joins_B1 = order_BA[:, place : place + 1]
        present = present.scatter(1, joins_B1, True)
        more_B = game(present).double()
        found_BA.scatter_(1, joins_B1, (more_B - worth_B)[:, None])
        worth_B = more_B
    return found_BA


class Ratings(NamedTuple):
    """Skill as a normal distribution per agent.

    Attributes:
        mean_A: rating.
        spread_A: how unsure it still is.
    """

    mean_A: Float[Tensor, "A"]
    spread_A: Float[Tensor, "A"]


def ratings(score_RA: Float[Tensor, "R A"]) -> Ratings:
    """OpenSkill ratings (Plackett-Luce; Joshy 2024) of agents that meet all others in every match.

    Args:
        score_RA: what each agent achieved in each match, higher is better; only ranks count.

    Raises:
        EconomyError: the ``openskill`` package is not installed.
    """
    if find_spec("openskill") is None:
        raise EconomyError(
            "ratings need the openskill package: pip install 'agent-economy[ratings]'"
        )
    model = import_module("openskill.models").PlackettLuce()
    players = [[model.rating()] for _ in range(score_RA.shape[1])]
    for score_A in score_RA:
        players = model.rate(players, scores=score_A.tolist())
    found = torch.tensor([[player.mu, player.sigma] for (player,) in players], dtype=torch.float64)
    return Ratings(found[:, 0], found[:, 1])


def rank_agreement(
    one_RA: Float[Tensor, "R A"],
    other_RA: Float[Tensor, "R A"],
    chosen_A: Bool[Tensor, "A"] | None = None,
    *,
    resamples: int = 400,
) -> Estimate:
    """Spearman's correlation over agents of two measures' means, with its interval over rows.

    Args:
        one_RA: a measure of every agent on every row.
        other_RA: another on the same rows.
        chosen_A: agents to compare; all where None.
        resamples: of the bootstrap over rows.
    """
    if chosen_A is not None:
        one_RA, other_RA = one_RA[:, chosen_A], other_RA[:, chosen_A]
    rows, agents = one_RA.shape
    row = torch.arange(rows).repeat_interleave(agents)
    agent = torch.arange(agents).repeat(rows)
    size = torch.ones(rows * agents)
    found = fit_groups(one_RA.flatten(), other_RA.flatten(), size, agent, row, resamples=resamples)
    return found.rank
