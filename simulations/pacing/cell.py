"""Streams of one kind and length, priced in five ways."""

from __future__ import annotations

import pandas as pd

from agent_economy.runs.scenario import Cell
from agent_economy.runs.seeds import seed_for
from simulations.model import let_go
from simulations.pacing.auction import Auction, Pacer, hindsight, planned, smoothed
from simulations.pacing.config import PacingConfig
from simulations.pacing.session import Session
from simulations.pacing.streams import drawn_streams

NO_SAMPLE, HINDSIGHT = "no_sample", "hindsight"
ONE_SAMPLE, SMOOTHED, ITS_PRICE = "one_sample", "smoothed_sample", "price_of_a_sample"


def run_cell(session: Session, cell: Cell) -> dict[str, pd.DataFrame]:
    """Draw streams, each with another one as its sample, and sell them.

    Returns:
        ``pacing``: one row per stream and method, credits. ``regret`` is the linear program's
        optimum less the welfare achieved, the sum of ``mispriced``, ``refused`` and ``unspent``
        (see `auction`). ``first_price`` is relative to the best one, ``price_error`` the root mean
        square of the price's log distance from it.
    """
    config = session.config
    assert isinstance(config, PacingConfig)
    order, length, seed = str(cell["order"]), int(cell["tokens"]), int(cell["seed"])
    pool = session.pool(seed, order)
    lots = seed_for(seed, "streams", order, length)
    token_DT, sample_DT = drawn_streams(pool, order, length, config.draws, lots)
    # Supply is what the length promises, not what this very stream would take.
    mean_flops = float(pool.flops_TA.sum(1).mean())
    supply_D = pool.bid_TA.new_full((config.draws,), config.supply * mean_flops * length)
    sample = pool.bid_TA[sample_DT], pool.flops_TA[sample_DT]
    sample_price_D = hindsight(*sample, supply_D).price_D
    plan_DT = planned(*sample, sample_price_D, supply_D)
    smooth_DT = smoothed(plan_DT, config.window, supply_D)
    even_DT = (supply_D / length)[:, None].expand(-1, length)
    # Bids are calibrated to a mean of one credit: the one price that is known without a sample.
    guess_D = supply_D.new_full(supply_D.shape, pool.bid_TA.shape[1] / mean_flops)

    mesa = seed_for(seed, "mesa") % 2**31
    auction = Auction(pool.bid_TA[token_DT], pool.flops_TA[token_DT], supply_D, mesa)
    pacers = [
        Pacer(auction, NO_SAMPLE, even_DT, guess_D, config.rate),
        Pacer(auction, ONE_SAMPLE, plan_DT, sample_price_D, config.rate),
        Pacer(auction, SMOOTHED, smooth_DT, sample_price_D, config.rate),
        Pacer(auction, ITS_PRICE, even_DT, sample_price_D, config.rate),
        Pacer(auction, HINDSIGHT, even_DT, auction.best.price_D, 0.0),
    ]
    let_go(auction)
    while auction.running:
        auction.step()
    rows = [_rows(auction, pacer) for pacer in pacers]
    return {"pacing": pd.concat(rows, ignore_index=True)}


def _rows(auction: Auction, pacer: Pacer) -> pd.DataFrame:
    best = auction.best
    columns = {
        "optimum": best.welfare_D,
        "regret": best.welfare_D - pacer.welfare_D,
        "mispriced": pacer.mispriced_D,
        "refused": pacer.refused_D,
        "unspent": pacer.unspent_D,
        "spend_share": pacer.spend_D / auction.supply_D,
        "first_price": pacer.first_D / best.price_D,
        "price_error": (pacer.drift_D / auction.length).sqrt(),
    }
    found = {name: value_D.numpy() for name, value_D in columns.items()}
    return pd.DataFrame({"draw": range(len(best.price_D)), "method": pacer.name, **found})
