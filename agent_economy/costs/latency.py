"""The tariff on a clock: a measured table of what agents take, and budgets in milliseconds.

FLOPs are what agents are charged; milliseconds are what a user waits for. A table of readings
(agent kind, size, tokens, device) says how the two go together on one machine. For every kind a
small model is fitted to it,

    ms = call + token * tokens + pair * tokens * context

with coefficients that are not negative (Lawson and Hanson 1974). Summed over the agents of a plan,
that is the plan's latency. As rates of a layer (``rates``) it is what agents are charged, token by
token, so that markets clear milliseconds: calls are spread over the tokens of a batch of a stated
size, and what a row pays does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.costs.rates import PS_PER_MS, Rates
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError

#: head: queries, scores, mixing, output of one head; keys: keys and values of one unit; block: one
#: neuron block; rest: what a layer does whoever serves (normalisation, residual sums); clearing:
#: one agent's bids at a uniform price
Kind = Literal["head", "keys", "block", "rest", "clearing"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Reading:
    """One measured value.

    Attributes:
        kind: of agent.
        size: its width: dimensions of a head, neurons of a block, else the model dimension.
        hidden: model dimension.
        tokens: that it served at once.
        context: tokens that each of them attends to on average; 0 where that does not matter.
        device: where.
        ms: of one agent.
    """

    kind: Kind
    size: int
    hidden: int
    tokens: int
    context: int
    device: str
    ms: float


@dataclass(frozen=True)
class Line:
    """A kind's fitted model; see the module's heading."""

    call_ms: float
    token_ms: float
    pair_ms: float

    def ms(self, tokens: int, context: int | float) -> float:
        """Milliseconds of one agent: ``call + token * tokens + pair * tokens * context``.

        Args:
            tokens: that it serves at once.
            context: tokens that each of them attends to on average.
        """
        return self.call_ms + self.token_ms * tokens + self.pair_ms * tokens * context

    def spread_ms(self, tokens: int) -> float:
        """Milliseconds of a token, its share of a call for so many tokens included."""
        return self.token_ms + self.call_ms / tokens


@dataclass(frozen=True)
class LatencyTariff:
    """What agents of one layer shape take on one device.

    Attributes:
        lines: of every kind; a block is a whole one of the shape's size.
        device: where it was measured.
    """

    lines: Mapping[Kind, Line]
    device: str

    @classmethod
    def fit(
        cls, readings: Iterable[Reading], shape: LayerShape, device: str = "cpu"
    ) -> LatencyTariff:
        """Fit the table's readings of this shape on this device.

        Blocks are matrix products side by side, so neurons count and not blocks: where the shape's
        block size was not measured, the nearest one that was is scaled.

        Raises:
            EconomyError: the table does not have them.
        """
        readings = list(readings)
        lines: dict[Kind, Line] = {}
        for kind in KINDS:
            size = _size(kind, shape)
            here = [
                each
                for each in readings
                if (each.kind, each.hidden, each.device) == (kind, shape.hidden, device)
            ]
            if kind == "block" and here:
                size = min({each.size for each in here}, key=lambda one: (abs(one - size), one))
            own = [each for each in here if each.size == size]
            if len({each.tokens for each in own}) < 2:
                raise EconomyError(
                    f"no latencies of {kind!r} agents of size {size} at hidden size "
                    f"{shape.hidden} on {device}; measure them on that machine with "
                    "`agent-economy bench latency` or, for any model, "
                    "`python -m benchmarks.latency --model MODEL`"
                )
            lines[kind] = _fitted(own, _size(kind, shape) / size)
        return cls(lines, device)

    def rates(self, shape: LayerShape, tokens: int) -> Rates:
        """What agents of the shape are charged, in picoseconds.

        An agent that serves all of ``tokens`` pays what ``plan_ms`` says; one that serves some of
        them pays that share of its calls.

        Args:
            shape: of every layer.
            tokens: of a batch, over which calls are spread.
        """
        head, block = self.lines["head"], self.lines["block"]
        block_ps = block.spread_ms(tokens) * PS_PER_MS
        neuron_flops = 2 * shape.ffn_matrices * shape.hidden * shape.block_size
        return Rates(
            "ps",
            round(head.spread_ms(tokens) * PS_PER_MS),
            round(head.pair_ms * PS_PER_MS),
            round(self.lines["keys"].spread_ms(tokens) * PS_PER_MS),
            tuple(round(block_ps * size / shape.block_size) for size in shape.block_sizes),
            # A bid is read off hidden states by a matrix product, as a block is.
            flop=block_ps / neuron_flops,
            bid=self.lines["clearing"].spread_ms(tokens) * PS_PER_MS,
        )

    def plan_ms(
        self, shape: LayerShape, plan_YN: Bool[Tensor, "Y N"], rows: int, length: int
    ) -> float:
        """Milliseconds of a forward in which only a static plan's agents run.

        Args:
            shape: of every layer.
            plan_YN: agents that serve every token.
            rows: of the batch.
            length: real tokens in each row.
        """
        heads_YH = plan_YN[:, : shape.heads]
        units = int(heads_YH.unflatten(1, (shape.kv_heads, -1)).any(-1).sum())
        # The last block may be smaller: neurons count, not blocks.
        sizes_G = torch.tensor(shape.block_sizes, device=plan_YN.device)
        blocks = float((plan_YN[:, shape.heads :] * sizes_G).sum()) / shape.block_size
        counts: dict[Kind, float] = {
            "head": int(heads_YH.sum()),
            "keys": units,
            "block": blocks,
            "rest": len(plan_YN),
        }
        context = (length + 1) / 2 if shape.causal else length
        return sum(
            count * self.lines[kind].ms(rows * length, context) for kind, count in counts.items()
        )

    def agents_ms(
        self, shape: LayerShape, layers: int, rows: int, length: int, *, pooled: bool = False
    ) -> float:
        """Milliseconds that all agents together are charged for a forward.

        Args:
            shape: of every layer.
            layers: how many.
            rows: of the batch.
            length: real tokens in each row.
            pooled: whether only the first token is read after the last layer.
        """
        charged = replace(shape, rates=self.rates(shape, rows * length))
        mask_BL = torch.ones(rows, length, dtype=torch.bool)
        tariffs = layer_tariffs(charged, layers, mask_BL, pooled=pooled)
        return sum(int(each.dense_flops_BL.sum()) for each in tariffs) / PS_PER_MS

    def rest_ms(self, layers: int, rows: int, length: int) -> float:
        """Milliseconds of a forward of the layers that no agent can save."""
        return layers * self.lines["rest"].ms(rows * length, 0)

    def dense_ms(
        self, shape: LayerShape, layers: int, rows: int, length: int, *, pooled: bool = False
    ) -> float:
        """Milliseconds of a forward of the layers in which everybody serves."""
        agents_ms = self.agents_ms(shape, layers, rows, length, pooled=pooled)
        return agents_ms + self.rest_ms(layers, rows, length)

    def budget_fraction(
        self,
        budget_ms: float,
        shape: LayerShape,
        layers: int,
        rows: int,
        length: int,
        *,
        pooled: bool = False,
    ) -> float:
        """The share of all agents' milliseconds that leaves a forward of so many in all.

        Args:
            budget_ms: for one forward of the layers; embeddings and heads come on top.
            shape: of every layer.
            layers: how many.
            rows: of the batch.
            length: real tokens in each row.
            pooled: whether only the first token is read after the last layer.

        Returns:
            A share in [0, 1]: 1 where even the dense model is fast enough.

        Raises:
            EconomyError: not even a forward without agents is that fast.
        """
        rest_ms = self.rest_ms(layers, rows, length)
        dense_ms = self.dense_ms(shape, layers, rows, length, pooled=pooled)
        if not budget_ms >= rest_ms:
            raise EconomyError(
                f"{budget_ms:g} ms is less than what {layers} layers take without any agent "
                f"({rest_ms:.3g} ms at {rows} x {length} tokens); give more than that, up to "
                f"{dense_ms:.3g} ms for the dense model"
            )
        if budget_ms >= dense_ms:
            return 1.0
        return (budget_ms - rest_ms) / (dense_ms - rest_ms)


def _size(kind: Kind, shape: LayerShape) -> int:
    if kind == "block":
        return shape.block_size
    return shape.head_dim if kind in ("head", "keys") else shape.hidden


def _fitted(own: list[Reading], scale: float) -> Line:
    """Least squares of relative errors: small counts matter as much as large ones."""
    from scipy.optimize import nnls

    tokens = np.array([each.tokens for each in own], dtype=float)
    context = np.array([each.context for each in own], dtype=float)
    ms = np.array([each.ms for each in own])
    design = np.stack((np.ones_like(tokens), tokens, tokens * context), 1) / ms[:, None]
    largest = design.max(0)
    largest[largest == 0] = 1.0
    found, _ = nnls(design / largest, np.ones_like(ms))
    call_ms, token_ms, pair_ms = scale * found / largest
    return Line(float(call_ms), float(token_ms), float(pair_ms))
