"""The two-part FLOPs tariff: what serving a token costs, and what opening a head costs.

A head pays, per token that it serves, its query and output projection slices and its score and
mixing FLOPs; and, once per sequence in which any token uses it, its key and value projections for
all context tokens. A neuron block pays per token only. One multiply-add is two FLOPs.

Where nobody reads a token's output, as in the last layer of a classifier that pools its first
token, serving it is dead computation and costs nothing. The token stays context all the same: those
that are read attend to it, so its keys and values are paid for.

Where a layer's shape carries rates of its own (``costs.rates``), the same integers are picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.costs.shape import LayerShape, flops_rates


@dataclass(frozen=True)
class Tariff:
    """FLOPs of one market: agents with a set-up fee come first, grouped by the unit they share.

    Layers of one shape share one tariff object, so what is derived from it is computed once.

    Attributes:
        token_flops_BNL: int64, what agent ``n`` pays to serve token ``l``; one column where
            every token of a row costs the same.
        setup_flops_U: int64, fee of set-up unit ``u`` per context token (key and value
            projections). The first ``U * group`` agents bear fees, ``group`` neighbours a unit.
        mask_BL: tokens that can be served, the ones whose service costs anything.
        group: agents that share one unit (query heads per key/value head).
        context_BL: tokens that set-up fees are paid for, at least those of ``mask_BL``; None
            where every agent can serve all of them.
        narrow_N: agents that cannot serve every token of ``mask_BL`` but surely the first one of
            a row; ``token_flops_BNL`` is 0 where they cannot. None where there are none, as in
            any market of one layer. Only given together with ``context_BL``.
    """

    token_flops_BNL: Int[Tensor, "B N #L"]
    setup_flops_U: Int[Tensor, "U"]
    mask_BL: Bool[Tensor, "B L"]
    group: int = 1
    context_BL: Bool[Tensor, "B L"] | None = None
    narrow_N: Bool[Tensor, "N"] | None = None

    @property
    def patchy(self) -> bool:
        """Whether some tokens are context that not every agent can serve."""
        return self.context_BL is not None

    @property
    def real_BL(self) -> Bool[Tensor, "B L"]:
        """Context tokens, served or not."""
        return self.mask_BL if self.context_BL is None else self.context_BL

    @cached_property
    def for_sale_BNL(self) -> Bool[Tensor, "B #N L"]:
        """Who can serve which token."""
        mask_B1L = self.mask_BL[:, None]
        if self.narrow_N is None:
            return mask_B1L
        return mask_B1L & (self.token_flops_BNL > 0)

    @cached_property
    def first_B1(self) -> Int[Tensor, "B 1"]:
        """Where each row's first token stands that can be served."""
        return self.mask_BL.int().argmax(-1)[:, None]

    @property
    def fee_agents(self) -> int:
        """Agents that bear set-up fees; they come first."""
        return self.setup_flops_U.shape[0] * self.group

    @cached_property
    def length_B(self) -> Int[Tensor, "B"]:
        """Context tokens of each row."""
        return self.real_BL.sum(-1)

    @cached_property
    def setup_flops_BU(self) -> Int[Tensor, "B U"]:
        """Fee of opening each unit for each row's whole sequence."""
        return self.length_B[:, None] * self.setup_flops_U

    @cached_property
    def served_flops_BN(self) -> Int[Tensor, "B N"]:
        """FLOPs of each agent serving every token it can, set-up apart."""
        return (self.token_flops_BNL * self.mask_BL[:, None]).sum(-1)

    @cached_property
    def dense_flops_BL(self) -> Int[Tensor, "B L"]:
        """FLOPs of everybody serving each token, set-up spread evenly over context tokens."""
        return self.token_flops_BNL.sum(1) * self.mask_BL + self.setup_flops_U.sum() * self.real_BL

    @cached_property
    def double_BNL(self) -> Float[Tensor, "B N #L"]:
        """``token_flops_BNL`` in float64, which holds whole FLOPs exactly up to 9e15."""
        return self.token_flops_BNL.double()

    @property
    def flat(self) -> bool:
        """Whether all tokens of a row cost the same, and no two agents share a unit."""
        return self.group == 1 and self.token_flops_BNL.shape[-1] == 1

    def two_sizes(self, *, one_market: bool) -> int | None:
        """How many agents share the first agent's cost, where the others share one cost too.

        None where costs change along a row or there are more than two. ``by_size_N`` says which.

        Args:
            one_market: all rows trade in one market, so that costs must not differ between them.
        """
        return self._sizes[one_market]

    @cached_property
    def _sizes(self) -> tuple[int | None, int | None]:
        # One read of the device per tariff, which all layers of a forward share.
        flops_BN = self.token_flops_BNL[..., 0]
        if self.token_flops_BNL.shape[-1] > 1:
            return None, None
        first_BN = flops_BN == flops_BN[:, :1]
        other_B1 = torch.where(first_BN, 0, flops_BN).amax(1, keepdim=True)
        split, even, rest = (
            first_BN.sum(1)[0],
            (first_BN == first_BN[:1]).all(),
            (first_BN | (flops_BN == other_B1)).all(),
        )
        same = (flops_BN == flops_BN[:1]).all()
        found, per_row, over_rows = torch.stack((split, even & rest, same)).tolist()
        row = int(found) if per_row else None
        return row, row if over_rows else None

    @cached_property
    def by_size_N(self) -> Int[Tensor, "N"]:
        """Agents with the first agent's cost, then the others, each in their own order."""
        flops_N = self.token_flops_BNL[0, :, 0]
        return (flops_N != flops_N[0]).int().argsort(stable=True)

    @cached_property
    def bundle_flops_BUL(self) -> Float[Tensor, "B U L"]:
        """Under a flat tariff, the fee of each unit and k of its tokens, for k = 1, 2, ..."""
        count_L = torch.arange(1, self.mask_BL.shape[1] + 1, device=self.mask_BL.device)
        fee_BU1 = self.setup_flops_BU[..., None]
        return fee_BU1 + self.double_BNL[:, : self.fee_agents] * count_L

    @cached_property
    def line_flops_BI(self) -> Float[Tensor, "B I"]:
        """Under a flat tariff, FLOPs of ``[fee, tokens]`` of every unit, then of all other bids."""
        rows, length = self.mask_BL.shape
        own_BUL = self.double_BNL[:, : self.fee_agents].expand(-1, -1, length)
        fee_BU1 = self.setup_flops_BU[..., None].double()
        rest_BNL = self.double_BNL[:, self.fee_agents :].expand(-1, -1, length)
        units = torch.cat((fee_BU1, own_BUL), -1).reshape(rows, -1)
        return torch.cat((units, rest_BNL.reshape(rows, -1)), 1)

    @cached_property
    def token_lines_BLN(self) -> Float[Tensor, "B L N"]:
        """Costs of every token's items, agent by agent, as contiguous memory."""
        rows, length = self.mask_BL.shape
        return self.double_BNL.expand(rows, -1, length).transpose(1, 2).contiguous()

    @cached_property
    def row_lines_BI(self) -> Float[Tensor, "B I"]:
        """Costs of every row's items, agent by agent, as contiguous memory."""
        rows, length = self.mask_BL.shape
        return self.double_BNL.expand(rows, -1, length).reshape(rows, -1)

    @cached_property
    def batch_line_1I(self) -> Float[Tensor, "1 I"]:
        """Costs of the whole batch's items, agent by agent, as contiguous memory."""
        rows, length = self.mask_BL.shape
        return self.double_BNL.expand(rows, -1, length).transpose(0, 1).reshape(1, -1)

    def total_flops_BN(
        self, gate_BNL: Float[Tensor, "B N L"], served_BN: Float[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N"]:
        """FLOPs of serving tokens to the degree of their gates, set-up apart.

        Args:
            gate_BNL: degrees.
            served_BN: their sums over tokens, if they are at hand.
        """
        if self.token_flops_BNL.shape[-1] == 1:
            if served_BN is None:
                served_BN = gate_BNL.sum(-1)
            # Sums of 0/1 gates are whole numbers, exact in float32 up to 2**24 tokens.
            return served_BN.double() * self.double_BNL[..., 0]
        return (gate_BNL * self.double_BNL).sum(-1)


def layer_tariff(
    shape: LayerShape,
    mask_BL: Bool[Tensor, "B L"],
    read_BL: Bool[Tensor, "B L"] | None = None,
    *,
    computed: bool = False,
) -> Tariff:
    """The tariff of one layer for a batch.

    With ``context`` the tokens that a token attends to (all real ones of its row, or the earlier
    ones when causal), a head's token costs ``2*D*K + 2*K*D + 4*K*context`` and its set-up
    ``4*D*K`` per context token; a block of ``G`` neurons costs ``2*ffn_matrices*D*G``. Other rates
    of the shape stand in their places.

    Args:
        shape: sizes of the layer.
        mask_BL: real tokens.
        read_BL: tokens whose output anybody reads; all of them where None. The others are context
            and nothing else.
        computed: price what dense eager attention computes, full padded square, unread tokens and
            all, to compare with a FLOP counter. Budgets and receipts never do.
    """
    rows = mask_BL.shape[0]
    device = mask_BL.device
    real_BL = torch.ones_like(mask_BL) if computed else mask_BL
    if shape.causal and not computed:
        context_B1L = real_BL.cumsum(-1)[:, None]
    else:
        context_B1L = real_BL.sum(-1)[:, None, None]
    rates = flops_rates(shape) if computed or shape.rates is None else shape.rates
    head_B1L = rates.head + rates.pair * context_B1L
    block_G1 = torch.tensor(rates.blocks, device=device)[:, None]
    columns = head_B1L.shape[-1]
    parts = (
        head_B1L.expand(rows, shape.heads, columns),
        block_G1.expand(rows, block_G1.shape[0], columns),
    )
    flops_BNL = torch.cat(parts, 1)
    setup_U = torch.full((shape.kv_heads,), rates.setup, device=device)
    group = shape.heads // shape.kv_heads
    if read_BL is None or computed:
        return Tariff(flops_BNL, setup_U, real_BL, group)
    return Tariff(flops_BNL, setup_U, real_BL & read_BL, group, real_BL)


def layer_tariffs(
    shape: LayerShape, layers: int, mask_BL: Bool[Tensor, "B L"], *, pooled: bool
) -> list[Tariff]:
    """The tariffs of all layers for a batch; layers that cost the same share one object.

    Args:
        shape: sizes of a layer.
        layers: how many.
        mask_BL: real tokens.
        pooled: whether only the first token is read after the last layer (``costs.reading``).
    """
    tariff = layer_tariff(shape, mask_BL)
    if not pooled:
        return [tariff] * layers
    return [tariff] * (layers - 1) + [layer_tariff(shape, mask_BL, first_tokens(mask_BL))]


def served_tokens(
    mask_BL: Bool[Tensor, "B L"], layers: int, *, pooled: bool
) -> list[Bool[Tensor, "B L"]]:
    """The tokens that each layer can serve; arguments as for ``layer_tariffs``."""
    if not pooled:
        return [mask_BL] * layers
    return [mask_BL] * (layers - 1) + [first_tokens(mask_BL)]


def first_tokens(mask_BL: Bool[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
    """The token that a classifier pools: the one in the first place, if it is real."""
    read_BL = torch.zeros_like(mask_BL)
    read_BL[:, 0] = mask_BL[:, 0]
    return read_BL
