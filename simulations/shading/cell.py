"""One kind of market, many draws: what an agent gains that does not bid its values."""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from agent_economy.config import MechanismConfig
from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms import Clearing, Mechanism, State
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.members import build_mechanism
from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.shading.config import ShadingConfig
from simulations.shading.misreports import misreports, multiples
from simulations.shading.session import Session, Values

ALL_BIDS, ONE_BID, BY_AGENT = "all_bids", "one_bid", "all_bids_charged_by_agent"


def run_cell(session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
    """Draw markets, misreport in each of them, measure.

    Returns:
        ``shading``: one row per market, deviation and misreport (``family`` and ``level``).
        ``gain`` is the rent with misreported bids less the rent with truthful ones, in credits.
        What is misreported, and whose rent counts:

        - ``all_bids``: all bids of one agent, the rent of all its tokens;
        - ``one_bid``, where the mechanism promises to be truthful: the thinnest of its bids that
          is served, the rent of that token alone;
        - ``all_bids_charged_by_agent``, there too: as ``all_bids``, but the agent pays what its
          presence as a whole costs the others (Clarke 1971).

        ``uniform_rent`` is the agent's truthful rent at a uniform price in the same market.
    """
    mechanism = build_mechanism(MechanismConfig(name=str(cell["mechanism"])))
    kind, agents, seed = str(cell["market"]), int(cell["agents"]), int(cell["seed"])
    frames = []
    for market in range(session.config.draws):
        # The same markets for every mechanism.
        root = seed_for(seed, "market", kind, agents, market)
        generator = torch.Generator().manual_seed(root)
        values = session.market(kind, agents, seed, generator)
        liar = int(torch.randint(agents, (1,), generator=generator))
        frames.append(deviations(session.config, mechanism, values, liar).assign(draw=market))
    return {"shading": pd.concat(frames, ignore_index=True)}


def deviations(
    config: ShadingConfig, mechanism: Mechanism, values: Values, liar: int
) -> pd.DataFrame:
    """All misreports in one clearing, after a truthful one that a mechanism may learn from."""
    truth_1LN, budget = values.value_LN[None], config.budget_fraction
    own_L = values.value_LN[:, liar]
    uniform, _ = cleared(UniformPrice(), values.tariff, truth_1LN, budget, {})
    state = mechanism.initial_state(truth_1LN.shape[-1], len(values.tariff.setup_flops_U), 0)
    _, state = cleared(mechanism, values.tariff, truth_1LN, budget, state)
    truthful, _ = cleared(mechanism, values.tariff, truth_1LN, budget, state)

    served_L = truthful.allocation_BLN[0, :, liar] > 0
    # At this price per GFLOP a token costs so much of the agent's own FLOPs.
    token_flops_L = values.tariff.token_flops_BNL[0, liar].double()
    cost_L = (uniform.price.double().max() * token_flops_L / FLOPS_PER_GFLOP).expand(len(own_L))
    joint = misreports(config, own_L, cost_L, int(served_L.sum()))
    # The thinnest bid that is served is the one that a price is nearest to.
    thinnest = int(torch.where(served_L, own_L, torch.inf).argmin())
    single = multiples(config, own_L, only=thinnest)
    promised = mechanism.guarantees.truthful
    lies_BL = torch.cat((joint.bid_ML, single.bid_ML)) if promised else joint.bid_ML
    bid_BLN = truth_1LN.repeat(len(lies_BL), 1, 1)
    bid_BLN[..., liar] = lies_BL
    found, _ = cleared(mechanism, values.tariff, bid_BLN, budget, state)

    gain_BL = rent_BL(found, own_L, liar) - rent_BL(truthful, own_L, liar)
    together = len(joint.bid_ML)
    frames = [joint.table(ALL_BIDS, gain_BL[:together].sum(1))]
    if promised:
        frames.append(single.table(ONE_BID, gain_BL[together:, thinnest]))
        absent, _ = cleared(mechanism, values.tariff, truth_1LN, budget, state, absent=liar)
        before = pivot_rent_B(truthful, truth_1LN, own_L, liar, absent)
        after = pivot_rent_B(found, bid_BLN, own_L, liar, absent)
        frames.append(joint.table(BY_AGENT, (after - before)[:together]))
    return pd.concat(frames, ignore_index=True).assign(
        truthful_rent=float(rent_BL(truthful, own_L, liar).sum()),
        uniform_rent=float(rent_BL(uniform, own_L, liar).sum()),
        truthful_value=float((truthful.allocation_BLN[0, :, liar] * own_L).sum()),
    )


def cleared(
    mechanism: Mechanism,
    tariff: Tariff,
    bid_BLN: Float[Tensor, "B L N"],
    budget_fraction: float,
    state: State,
    absent: int | None = None,
) -> tuple[Clearing, State]:
    """Clear one market under several bids, one a row.

    Args:
        mechanism: how.
        tariff: FLOPs, of one row.
        bid_BLN: what is bid in each row.
        budget_fraction: supply as a share of what serving everybody would take.
        state: what the mechanism remembers.
        absent: an agent that does not take part, though supply is as if it did.
    """
    rows, _, agents = bid_BLN.shape
    flops_BNL = tariff.token_flops_BNL.expand(rows, -1, -1)
    mask_BL = tariff.mask_BL.expand(rows, -1)
    tariff = Tariff(flops_BNL, tariff.setup_flops_U, mask_BL, tariff.group)
    supply_BL = (tariff.dense_flops_BL.double() * budget_fraction).floor().long()
    active_N = torch.arange(agents) != (-1 if absent is None else absent)
    limit_BN = torch.full((rows, agents), torch.inf)
    return mechanism.clear(bid_BLN, tariff, supply_BL, active_N, limit_BN, state)


def rent_BL(
    clearing: Clearing, value_L: Float64[Tensor, "L"], agent: int
) -> Float64[Tensor, "B L"]:
    """What an agent has left of each token's value after payment."""
    return clearing.allocation_BLN[..., agent] * value_L - clearing.payment_BLN[..., agent]


def pivot_rent_B(
    clearing: Clearing,
    bid_BLN: Float[Tensor, "B L N"],
    value_L: Float64[Tensor, "L"],
    agent: int,
    absent: Clearing,
) -> Float64[Tensor, "B"]:
    """What an agent would have left if it paid what its presence costs the others.

    ``value served - (welfare without it - others' welfare with it)``, others as they bid.

    Args:
        clearing: with the agent.
        bid_BLN: what was bid in it.
        value_L: what its tokens are worth to the agent.
        agent: which one.
        absent: one row, without the agent.
    """
    served_BL = clearing.allocation_BLN[..., agent]
    others_B = clearing.welfare - (served_BL * bid_BLN[..., agent]).sum(1)
    return (served_BL * value_L).sum(1) - (absent.welfare - others_B)
