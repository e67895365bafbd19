"""HiGHS as the oracle of the market: the same program, written out as matrices."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.goods import Goods
from agent_economy.testing.markets import Market


def _program(goods: Goods) -> tuple[np.ndarray, np.ndarray, coo_array, float]:
    """Values, FLOPs, linking rows ``x - y <= 0`` and supply of a market that is all of ``goods``.

    Variables are every bid, then every unit of every row.
    """
    tariff = goods.tariff
    rows, agents, length = goods.value_BNL.shape
    units = tariff.setup_flops_U.shape[0]
    value = (goods.value_BNL * goods.pace_BNL).numpy().ravel()
    flops = tariff.double_BNL.expand(rows, agents, length).numpy().ravel()
    bid = np.arange(value.size).reshape(rows, agents, length)
    links = [
        (bid[b, n, token], value.size + b * units + n // tariff.group)
        for b in range(rows)
        for n in range(tariff.fee_agents)
        for token in range(length)
    ]
    count = len(links)
    columns = np.array(links, dtype=int).reshape(count, 2).ravel()
    link = coo_array(
        (np.tile([1.0, -1.0], count), (np.repeat(np.arange(count), 2), columns)),
        shape=(count, value.size + rows * units),
    )
    fees = tariff.setup_flops_BU.numpy().ravel().astype(float)
    objective = np.concatenate((value, np.zeros_like(fees)))
    return objective, np.concatenate((flops, fees)), link, float(goods.supply_BL.sum())


def linear_welfare(goods: Goods) -> float:
    """Welfare of the linear program, one market for all of ``goods``."""
    value, flops, link, supply = _program(goods)
    matrix = coo_array(np.concatenate((flops[None], link.toarray())))
    bound = np.concatenate(([supply], np.zeros(link.shape[0])))
    found = linprog(-value, A_ub=matrix.tocsr(), b_ub=bound, bounds=(0, 1), method="highs")
    assert found.success, found.message
    return float(-found.fun)


def exact_welfare(goods: Goods) -> float:
    """Welfare of the mixed-integer program, one market for all of ``goods``."""
    value, flops, link, supply = _program(goods)
    limits = [LinearConstraint(flops[None], -np.inf, supply)]
    if link.shape[0]:
        limits.append(LinearConstraint(link.tocsr(), -np.inf, 0))
    found = milp(
        -value,
        constraints=limits,
        integrality=np.ones_like(value),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    assert found.success, found.message
    return float(-found.fun)


def random_market(
    seed: int,
    *,
    rows: int = 1,
    group: int = 1,
    fees: bool = True,
    least_units: int = 1,
    least_tokens: int = 2,
) -> Market:
    """A market whose agents, unlike a real layer's, all cost something else.

    There are up to two more units, and three more tokens, than the least.
    """
    generator = np.random.default_rng(seed)
    units = int(generator.integers(least_units, least_units + 3)) if fees else 0
    others = int(generator.integers(0 if fees else 2, 4))
    length = int(generator.integers(least_tokens, least_tokens + 4))
    agents = units * group + others
    mask_BL = torch.arange(length) < torch.from_numpy(
        generator.integers(least_tokens, length + 1, (rows, 1))
    )
    tariff = Tariff(
        torch.from_numpy(generator.integers(50, 500, (rows, agents, length))),
        torch.from_numpy(generator.integers(10, 150, units)),
        mask_BL,
        group,
    )
    density = torch.from_numpy(generator.lognormal(0, 1, (rows, agents, length)))
    fraction = torch.from_numpy(generator.uniform(0.1, 0.9, (rows, 1)))
    return Market(
        (density * tariff.double_BNL / 300).transpose(1, 2),
        tariff,
        (fraction * tariff.dense_flops_BL).long(),
        torch.ones(agents, dtype=torch.bool),
        torch.full((rows, agents), 1e30, dtype=torch.float64),
    )
