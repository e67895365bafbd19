"""The tariff on a clock: a measured table of what agents take, and budgets in milliseconds.

FLOPs are what agents are charged; milliseconds are what a user waits for. A table of readings
(agent kind, size, tokens, device) says how the two go together on one machine. For every kind a
small model is fitted to it,

    ms = call + token * tokens + pair * tokens * context

with coefficients that are not negative (Lawson and Hanson 1974). Summed over the agents of a plan,
that is the plan's latency; solved for the share of the agents, it turns a budget in milliseconds
into one in FLOPs, which mechanisms, plans and training understand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.costs.tariff import LayerShape
from agent_economy.errors import EconomyError

#: head: queries, scores, mixing, output of one head; keys: keys and values of one unit; block: one
#: neuron block; rest: what a layer does whoever serves (normalisation, residual sums)
Kind = Literal["head", "keys", "block", "rest"]
KINDS: tuple[Kind, ...] = ("head", "keys", "block", "rest")


@dataclass(frozen=True)
class Reading:
    """One measured value.

    Attributes:
        kind: of agent.
        size: its width: dimensions of a head, neurons of a block, model dimension of the rest.
        hidden: model dimension.
        tokens: that it served at once.
        context: tokens that each of them attends to; 0 where that does not matter.
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

    def ms(self, tokens: int, context: int) -> float:
        """Milliseconds of one agent."""
        return self.call_ms + self.token_ms * tokens + self.pair_ms * tokens * context


@dataclass(frozen=True)
class LatencyTariff:
    """What agents of one layer shape take on one device.

    Attributes:
        lines: of every kind.
        device: where it was measured.
    """

    lines: Mapping[Kind, Line]
    device: str

    @classmethod
    def fit(
        cls, readings: Iterable[Reading], shape: LayerShape, device: str = "cpu"
    ) -> LatencyTariff:
        """Fit the table's readings of this shape on this device.

        Raises:
            EconomyError: the table does not have them.
        """
        readings = list(readings)
        lines: dict[Kind, Line] = {}
        for kind in KINDS:
            size = _size(kind, shape)
            own = [
                each
                for each in readings
                if (each.kind, each.size, each.hidden, each.device)
                == (kind, size, shape.hidden, device)
            ]
            if len({each.tokens for each in own}) < 2:
                raise EconomyError(
                    f"no latencies of {kind!r} agents of size {size} at hidden size "
                    f"{shape.hidden} on {device}; measure them with "
                    "`python -m benchmarks.latency` on that machine"
                )
            lines[kind] = _fitted(own)
        return cls(lines, device)

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
        counts = (int(heads_YH.sum()), units, blocks, len(plan_YN))
        return sum(
            count * self._ms(kind, rows, length) for kind, count in zip(KINDS, counts, strict=True)
        )

    def dense_ms(self, shape: LayerShape, layers: int, rows: int, length: int) -> float:
        """Milliseconds of a forward in which everybody serves."""
        everybody_YN = torch.ones(layers, shape.agents, dtype=torch.bool)
        return self.plan_ms(shape, everybody_YN, rows, length)

    def budget_fraction(
        self, budget_ms: float, shape: LayerShape, layers: int, rows: int, length: int
    ) -> float:
        """The share of dense agent FLOPs that takes so long, agents of all kinds thinned alike.

        Args:
            budget_ms: for one forward of the layers.
            shape: of every layer.
            layers: how many.
            rows: of the batch.
            length: real tokens in each row.

        Returns:
            A share in [0, 1]: 1 where even the dense model is fast enough.

        Raises:
            EconomyError: not even a forward without agents is that fast.
        """
        rest_ms = layers * self._ms("rest", rows, length)
        dense_ms = self.dense_ms(shape, layers, rows, length)
        if not budget_ms >= rest_ms:
            raise EconomyError(
                f"{budget_ms:g} ms is less than what {layers} layers take without any agent "
                f"({rest_ms:.3g} ms at {rows} x {length} tokens); give at least that, up to "
                f"{dense_ms:.3g} ms for the dense model"
            )
        if budget_ms >= dense_ms:
            return 1.0
        return (budget_ms - rest_ms) / (dense_ms - rest_ms)

    def _ms(self, kind: Kind, rows: int, length: int) -> float:
        return self.lines[kind].ms(rows * length, length)


def as_rows(readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """Readings as rows of a table or a JSON file."""
    return [asdict(each) for each in readings]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Reading]:
    """Readings from rows; other columns are left out.

    Raises:
        EconomyError: a row lacks a column.
    """
    names = Reading.__dataclass_fields__
    try:
        return [Reading(**{name: row[name] for name in names}) for row in rows]
    except KeyError as error:
        raise EconomyError(
            f"a table of latencies has no column {error.args[0]!r}; make one with "
            "`python -m benchmarks.latency`"
        ) from error


def _size(kind: Kind, shape: LayerShape) -> int:
    sizes = {"block": shape.block_size, "rest": shape.hidden}
    return sizes.get(kind, shape.head_dim)


def _fitted(own: list[Reading]) -> Line:
    """Least squares of relative errors: small counts matter as much as large ones."""
    from scipy.optimize import nnls

    tokens = np.array([each.tokens for each in own], dtype=float)
    context = np.array([each.context for each in own], dtype=float)
    ms = np.array([each.ms for each in own])
    design = np.stack((np.ones_like(tokens), tokens, tokens * context), 1) / ms[:, None]
    scale = design.max(0)
    scale[scale == 0] = 1.0
    found, _ = nnls(design / scale, np.ones_like(ms))
    call_ms, token_ms, pair_ms = found / scale
    return Line(float(call_ms), float(token_ms), float(pair_ms))
