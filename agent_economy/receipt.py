"""What a forward really executed, against supply."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.costs.fixed import FixedFlops
from agent_economy.costs.rates import PS_PER_MS
from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.base import Clearing


@dataclass(frozen=True)
class Receipt:
    """FLOPs, prices and payments of one forward. All counts leave padding out.

    A forward that goes on from a cache reports the whole sequence so far. FLOPs are FLOPs whatever
    agents are charged; ``charged`` and its neighbours are in the market's unit (``costs.rates``).

    Attributes:
        tariffs: each layer's price list, in the market's unit.
        mask_BL: real tokens.
        clearings: what each layer's market decided; None where it was not run and everybody
            served for nothing.
        supplies: per layer, what each token brought (B, L) in the market's unit, the market's own
            included.
        market_flops_Y: what bidding and clearing cost per token in each layer, paid out of supply
            before agents were served; 0 where no market was run. Tokens that a layer cannot serve
            take no part.
        fixed: FLOPs that no agent can save, reported beside.
        traced: whether the market looked at a dense pass before.
        optimal_welfare: the linear program's optimum for the same bids and supply, over all
            layers; None where it was not measured.
        timings_ms: clock readings per phase of the market.
        flops_tariffs: each layer's price list in FLOPs; None where ``tariffs`` are.
        market_charge_Y: as ``market_flops_Y``, in the market's unit; None where the same.
    """

    tariffs: list[Tariff]
    mask_BL: Bool[Tensor, "B L"]
    clearings: list[Clearing | None]
    supplies: list[Int[Tensor, "B L"]]
    market_flops_Y: list[int]
    fixed: FixedFlops
    traced: bool = False
    optimal_welfare: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    flops_tariffs: list[Tariff] | None = None
    market_charge_Y: list[int] | None = None

    def allocation_BLN(self, layer: int) -> Float[Tensor, "B L N"]:
        """Gates of one layer; all ones on tokens that can be served where no market was run."""
        clearing = self.clearings[layer]
        if clearing is not None:
            return clearing.allocation_BLN
        tariff = self.tariffs[layer]
        agents = tariff.token_flops_BNL.shape[1]
        return tariff.mask_BL[..., None].float().expand(*self.mask_BL.shape, agents)

    def agent_flops_BLN(self, layer: int) -> Int[Tensor, "B L N"]:
        """FLOPs that each agent spent on serving each token of a layer, set-up apart."""
        return self._tokens_BLN(self._in_flops[layer], layer)

    def setup_flops_BU(self, layer: int) -> Int[Tensor, "B U"]:
        """Set-up FLOPs of the units that any token of a row used."""
        return self._setup_BU(self._in_flops[layer], layer)

    @property
    def spend_flops(self) -> int:
        """Agent FLOPs of serving in all layers, set-up and market included.

        An executor may compute more: a masked one runs everything, a routed one runs agents that
        serve most tokens on all of them. Nobody is charged for that.
        """
        return self._spent(self._in_flops) + self.market_flops

    @property
    def market_flops(self) -> int:
        """FLOPs of bidding and clearing, in the layers whose market was run."""
        return self._over_tokens(self.market_flops_Y)

    @property
    def dense_flops(self) -> int:
        """Agent FLOPs of the dense model on the same tokens."""
        return sum(int(each.dense_flops_BL.sum()) for each in self._in_flops)

    # --- in the market's unit ----------------------------------------------------------------

    @property
    def in_ms(self) -> bool:
        """Whether agents were charged milliseconds (counted in picoseconds) and not FLOPs."""
        return self.flops_tariffs is not None

    @property
    def charged(self) -> int:
        """What agents and market were charged in all layers, set-up included."""
        return self._spent(self.tariffs) + self._over_tokens(self.due_Y)

    def agent_charge_BLN(self, layer: int) -> Int[Tensor, "B L N"]:
        """What each agent was charged for serving each token of a layer, set-up apart."""
        return self._tokens_BLN(self.tariffs[layer], layer)

    def setup_charge_BU(self, layer: int) -> Int[Tensor, "B U"]:
        """What units that any token of a row used were charged."""
        return self._setup_BU(self.tariffs[layer], layer)

    @property
    def due_Y(self) -> list[int]:
        """What bidding and clearing were charged per token in each layer."""
        return self.market_flops_Y if self.market_charge_Y is None else self.market_charge_Y

    @property
    def dense_charge(self) -> int:
        """What all agents would be charged for the same tokens."""
        return sum(int(each.dense_flops_BL.sum()) for each in self.tariffs)

    @property
    def supply(self) -> int:
        """What was on offer in all layers: for agents and for the markets that serve them."""
        return sum(int(each.sum()) for each in self.supplies)

    @property
    def charged_fraction(self) -> float:
        """Charged over what all agents would be: what a budget fraction bounds."""
        return self.charged / max(self.dense_charge, 1)

    @property
    def spend_ms(self) -> float:
        """Milliseconds that agents and market were charged."""
        return self._ms(self.charged)

    @property
    def dense_ms(self) -> float:
        """Milliseconds that all agents would be charged for the same tokens."""
        return self._ms(self.dense_charge)

    @property
    def supply_ms(self) -> float:
        """Milliseconds on offer in all layers, where supply is time."""
        return self._ms(self.supply)

    @property
    def trace_flops(self) -> int:
        """Agent FLOPs of the dense pass that a traced market looked at before.

        Not part of spend, which makes traced markets a study and no saving.
        """
        return self.dense_flops if self.traced else 0

    @property
    def supply_flops(self) -> int:
        """FLOPs on offer in all layers: for agents and for the markets that serve them.

        Raises:
            EconomyError: milliseconds were on offer.
        """
        if self.in_ms:
            raise EconomyError("this economy trades milliseconds; read receipt.supply_ms")
        return self.supply

    @property
    def fixed_flops(self) -> int:
        """FLOPs outside the agents: pooler, task head, language-model head."""
        return self.fixed.total(self.mask_BL.shape[0], int(self.mask_BL.sum()))

    @property
    def flops_fraction(self) -> float:
        """Spent over dense agent FLOPs."""
        return self.spend_flops / max(self.dense_flops, 1)

    @property
    def price_YBL(self) -> Float[Tensor, "Y B L"]:
        """Credits per GFLOP of every layer and token; an agent's own prices averaged."""
        shape = self.mask_BL.shape
        zero = torch.zeros(shape, device=self.mask_BL.device)
        return torch.stack(
            [
                zero if each is None else each.price.mean(-1).to(zero).expand(shape)
                for each in self.clearings
            ]
        )

    @property
    def welfare(self) -> float:
        """Declared value served in the layers whose market was run, credits."""
        return float(sum(each.welfare.sum() for each in self.clearings if each is not None))

    # --- parts -------------------------------------------------------------------------------

    @property
    def _in_flops(self) -> list[Tariff]:
        return self.tariffs if self.flops_tariffs is None else self.flops_tariffs

    def _tokens_BLN(self, tariff: Tariff, layer: int) -> Tensor:
        """What each agent cost by one price list, set-up apart."""
        served_BLN = self.allocation_BLN(layer) > 0
        return served_BLN * tariff.token_flops_BNL.transpose(1, 2)

    def _setup_BU(self, tariff: Tariff, layer: int) -> Tensor:
        """What units in use cost by one price list."""
        heads_BLN = self.allocation_BLN(layer)[..., : tariff.fee_agents] > 0
        units = tariff.setup_flops_U.shape[0]
        used_BU: Tensor = heads_BLN.any(1).unflatten(1, (units, tariff.group)).any(-1)
        return used_BU * tariff.setup_flops_BU

    def _spent(self, tariffs: list[Tariff]) -> int:
        """What all that was served cost by these price lists, the market apart."""
        layers = enumerate(tariffs)
        parts = [self._tokens_BLN(t, y).sum() + self._setup_BU(t, y).sum() for y, t in layers]
        return int(torch.stack(parts).sum())

    def _over_tokens(self, market_Y: list[int]) -> int:
        """What is due per token that a layer can serve, over all of them."""
        due = zip(market_Y, self.tariffs, strict=True)
        return sum(each * int(tariff.mask_BL.sum()) for each, tariff in due if each)

    def _ms(self, charge: int) -> float:
        if not self.in_ms:
            raise EconomyError(
                "this economy trades FLOPs; found it with latencies (latencies.latency_config)"
            )
        return charge / PS_PER_MS
