"""What an agent that bids on many tokens can bid instead of its values.

Four families; each contains the best answer to others' truthful bids under some rule of payment:

- ``shade``, ``overbid``: all bids times a factor below, above 1;
- ``withhold``: values for its best tokens, nothing for the rest. At a uniform price, with tokens of
  one size and no set-up fees, nothing gains more: to serve ``k`` tokens the price can't fall below
  the dearest bid of the others that is then left out, and bidding for its ``k`` best alone pays
  just that (Ausubel, Cramton, Pycia, Rostek and Weretka 2014, *Demand reduction and inefficiency in
  multi-unit auctions*);
- ``cap``: values up to a ceiling near the market's price. Where winners pay their bids, the best
  answer offers nearly the same for every token: hardly more than what it takes to win.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from simulations.shading.config import ShadingConfig

SHADE, OVERBID, WITHHOLD, CAP = "shade", "overbid", "withhold", "cap"

#: A capped bid rises by so much from worthless to best token: ties go to what is worth more.
_TILT = 1e-4


class Misreports(NamedTuple):
    """Bids of one agent, one row per misreport.

    Attributes:
        family: which kind.
        level: its factor; tokens withheld of those served; ceiling over price.
        bid_ML: credits.
    """

    family: list[str]
    level: list[float]
    bid_ML: Float64[Tensor, "M L"]

    def table(self, deviation: str, gain_M: Float64[Tensor, "M"]) -> pd.DataFrame:
        """One row per misreport."""
        named = {"deviation": deviation, "family": self.family, "level": self.level}
        return pd.DataFrame({**named, "gain": gain_M.numpy()})


def multiples(
    config: ShadingConfig, value_L: Float64[Tensor, "L"], only: int | None = None
) -> Misreports:
    """Values times a factor.

    Args:
        config: names the factors.
        value_L: the agent's values.
        only: the one token that is misreported; all are where None.
    """
    level = [*config.factors, *config.overbids]
    family = [SHADE] * len(config.factors) + [OVERBID] * len(config.overbids)
    factor_M1 = torch.tensor(level, dtype=torch.float64)[:, None]
    lied_L = torch.ones(len(value_L), dtype=torch.bool)
    if only is not None:
        lied_L = torch.arange(len(value_L)) == only
    return Misreports(family, level, value_L * torch.where(lied_L, factor_M1, 1.0))


def misreports(
    config: ShadingConfig,
    value_L: Float64[Tensor, "L"],
    cost_L: Float64[Tensor, "L"],
    served: int,
) -> Misreports:
    """Every family at every level.

    Args:
        config: names the levels.
        value_L: the agent's values.
        cost_L: what each token costs at the truthful market's uniform price, in credits.
        served: how many of its tokens are served when it is truthful.
    """
    scaled = multiples(config, value_L)
    rank_L = value_L.argsort(descending=True, stable=True).argsort()
    kept_M1 = served - torch.tensor(config.withheld)[:, None]
    withheld_ML = torch.where(rank_L < kept_M1, value_L, 0.0)
    tilt_L = 1 + _TILT * value_L / value_L.max().clamp(min=torch.finfo(torch.float64).tiny)
    ceiling_M1 = torch.tensor(config.ceilings, dtype=torch.float64)[:, None]
    capped_ML = torch.minimum(value_L, ceiling_M1 * cost_L * tilt_L)
    return Misreports(
        scaled.family + [WITHHOLD] * len(config.withheld) + [CAP] * len(config.ceilings),
        [*scaled.level, *map(float, config.withheld), *config.ceilings],
        torch.cat((scaled.bid_ML, withheld_ML, capped_ML)),
    )
