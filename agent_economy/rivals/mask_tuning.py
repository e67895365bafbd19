"""Mask tuning (Kwon et al. 2022, arXiv 2204.09656, section 4.3): survivors make up for the others.

Layer by layer, attention before FFN, the survivors' gates become real numbers ``m`` so that the
residual stream of the pruned model comes as close as possible to that of the dense one,

    min_m | (x' + f'(1)) - (x + f(m)) |^2 + damp^2 |m - 1|^2

with ``x'`` and ``x`` the stream that enters the sublayer in the dense model and in the pruned one
as tuned so far, and ``f(m) = sum_n m_n x_n W_n`` what its agents add. This is linear in ``m``: with
``A`` the matrix of contributions and ``c`` what is missing at ``m = 1``, ``m = 1 + r`` where
``(A'A + damp^2) r = A'c``. Kwon et al. take ``damp = 1``, and where a gate leaves [-10, 10] they
drop the sublayer's solution and stop tuning there; so does this.

``A'A`` is never built from ``A``: between two columns of the projection's input it is
``(X'X) * (W'W)``, element by element, and an agent's entries are sums over its columns. Neurons get
a gate each, as in the paper, or one per block. Where only the first token is read after the last
layer, only that token is reconstructed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agent_economy.adapters import Adapter
from agent_economy.adapters.base import projection_weight
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.rivals.folding import columns_YW

DAMP, BOUND = 1.0, 10.0


class Tuned(NamedTuple):
    """What tuning found.

    Attributes:
        scale_YX: gate of every surviving head, then of every surviving block or neuron; 1 for all
            that are closed and for all that were not tuned.
        missing_Y2: squared error of each layer's attention and FFN at gates of 1, given what
            enters it; NaN where nothing was tuned.
        left_Y2: the same at the tuned gates.
    """

    scale_YX: Float[Tensor, "Y X"]
    missing_Y2: Float[Tensor, "Y 2"]
    left_Y2: Float[Tensor, "Y 2"]


@torch.no_grad()
def tune(
    adapter: Adapter,
    batches: list[dict[str, Any]],
    plan_YN: Bool[Tensor, "Y N"],
    *,
    neurons: bool = True,
    damp: float = DAMP,
    bound: float = BOUND,
) -> Tuned:
    """Gates of a plan's agents by layer-wise least squares.

    Args:
        adapter: the dense model; unchanged.
        batches: inputs of the model.
        plan_YN: who survives.
        neurons: a gate per neuron instead of one per block.
        damp: how much gates are held at 1.
        bound: of acceptable gates.
    """
    shape = adapter.shape
    layers = len(adapter.sites)
    width = shape.heads + shape.ffn if neurons else shape.agents
    scale_YX = torch.ones(layers, width, dtype=torch.float64)
    missing_Y2 = torch.full((layers, 2), torch.nan, dtype=torch.float64)
    left_Y2 = missing_Y2.clone()
    open_Y = columns_YW(adapter, plan_YN.cpu())
    unit_X = torch.arange(width)
    (unit_Y, *_) = columns_YW(adapter, unit_X.expand(layers, -1))
    pooled = reading_of(adapter).pooled
    with _evaluating(adapter.model):
        runs = [_Run.of(adapter, batch) for batch in batches]
        stopped = False
        for layer in range(layers):
            first_only = pooled and layer == layers - 1
            for run in runs:
                run.remember_dense(layer, first_only)
            for part in range(2):
                open_W = open_Y[layer][part].nonzero()[:, 0]
                if stopped or not len(open_W):
                    continue
                gates = _gates(adapter, plan_YN, scale_YX, layer)
                units_W = unit_Y[part][open_W]
                gram, moment, missing = _normal(adapter, runs, layer, part, open_W, units_W, gates)
                r = torch.linalg.solve(gram + damp**2 * torch.eye(len(gram)), moment)
                stopped = not bool((1 + r).abs().max() <= bound)
                if not stopped:
                    scale_YX[layer, units_W.unique()] = 1 + r
                    missing_Y2[layer, part] = missing
                    left_Y2[layer, part] = missing - 2 * r @ moment + r @ gram @ r
            if stopped:
                break
            gates = _gates(adapter, plan_YN, scale_YX, layer)
            for run in runs:
                run.advance(layer, gates)
    return Tuned(scale_YX, missing_Y2, left_Y2)


def _gates(
    adapter: Adapter, plan_YN: Tensor, scale_YX: Tensor, layer: int
) -> tuple[Tensor, Tensor]:
    """Every column's factor in the pruned model, of heads and of neurons."""
    open_W, open_F = columns_YW(adapter, plan_YN.cpu().double())[layer]
    scale_W, scale_F = columns_YW(adapter, scale_YX)[layer]
    return open_W * scale_W, open_F * scale_F


def _normal(
    adapter: Adapter,
    runs: list[_Run],
    layer: int,
    part: int,
    open_W: Tensor,
    units_W: Tensor,
    gates: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """``A'A``, ``A'c`` and ``c'c`` of one sublayer, over all batches, in float64.

    Args:
        adapter: the model.
        runs: batches.
        layer: which layer.
        part: 0 for attention, 1 for the FFN.
        open_W: columns of the projection's input that survive.
        units_W: whose gate each of them has.
        gates: every column's factor so far; those of this part are 0 or 1.
    """
    sites = adapter.sites[layer]
    weight_DW = projection_weight((sites.attention_output, sites.ffn_output)[part])[:, open_W]
    columns = len(open_W)
    inner_WW = torch.zeros(columns, columns, dtype=torch.float64)
    moment_W = torch.zeros(columns, dtype=torch.float64)
    missing = torch.zeros((), dtype=torch.float64)
    for run in runs:
        x_TW, missing_TD = run.missing(layer, part, gates)
        x_TW = x_TW[:, open_W]
        inner_WW += (x_TW.T @ x_TW).double().cpu()
        moment_W += (x_TW * (missing_TD @ weight_DW)).double().sum(0).cpu()
        missing += missing_TD.double().square().sum().cpu()
    gram_WW = inner_WW * (weight_DW.T @ weight_DW).double().cpu()
    own_W = units_W.unique(return_inverse=True)[1]
    units = int(own_W.max()) + 1
    moment_X = torch.zeros(units, dtype=torch.float64).index_add(0, own_W, moment_W)
    rows_XW = torch.zeros(units, columns, dtype=torch.float64).index_add(0, own_W, gram_WW)
    gram_XX = torch.zeros(units, units, dtype=torch.float64).index_add(1, own_W, rows_XW)
    return gram_XX, moment_X, missing


class _Seen(NamedTuple):
    """One layer's pass: inputs of both projections, the stream after both, the layer's output."""

    inputs: tuple[Tensor, Tensor]
    stream: tuple[Tensor, Tensor]
    output: Tensor


class _Run:
    """One batch on its way through the dense and the pruned model, layer by layer.

    Args:
        adapter: the model.
        calls: how every layer was called in a dense pass, hidden states aside.
        hidden_BLD: what enters the first layer.
        mask_BL: real tokens.
    """

    def __init__(
        self, adapter: Adapter, calls: list[_Call], hidden_BLD: Tensor, mask_BL: Tensor
    ) -> None:
        self.adapter, self.calls = adapter, calls
        self.mask_BL = mask_BL
        self.dense_BLD = self.pruned_BLD = hidden_BLD
        self.target: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, adapter: Adapter, batch: dict[str, Any]) -> _Run:
        """Watch how the model calls its layers."""
        calls: list[_Call] = []
        hidden: list[Tensor] = []

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = {key: value for key, value in kwargs.items() if key != "hidden_states"}
            hidden.append(args[0] if args else kwargs["hidden_states"])
            calls.append(_Call(args[1:], named))

        with ExitStack() as hooks:
            for sites in adapter.sites:
                handle = sites.layer.register_forward_pre_hook(note, with_kwargs=True)
                hooks.callback(handle.remove)
            # A cache would grow with every time that a layer is run again.
            adapter.model(**(batch | {"use_cache": False} if adapter.shape.causal else batch))
        return cls(adapter, calls, hidden[0], token_mask(batch))

    def remember_dense(self, layer: int, first_only: bool) -> None:
        """Note what both sublayers of the dense model leave in the stream; go on to the next."""
        if first_only:
            self.mask_BL = self.mask_BL & (torch.arange(self.mask_BL.shape[1]) == 0).to(
                self.mask_BL.device
            )
        seen = self._pass(layer, self.dense_BLD, None)
        self.target = seen.stream
        self.dense_BLD = seen.output

    def missing(self, layer: int, part: int, gates: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """For real tokens: the projection's input, and what the pruned stream lacks after it."""
        seen = self._pass(layer, self.pruned_BLD, gates)
        missing_BLD = self.target[part] - seen.stream[part]
        return seen.inputs[part][self.mask_BL], missing_BLD[self.mask_BL]

    def advance(self, layer: int, gates: tuple[Tensor, Tensor]) -> None:
        """Let the pruned model go on to the next layer."""
        self.pruned_BLD = self._pass(layer, self.pruned_BLD, gates).output

    def _pass(self, layer: int, hidden_BLD: Tensor, gates: tuple[Tensor, Tensor] | None) -> _Seen:
        adapter, sites = self.adapter, self.adapter.sites[layer]
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        reads: list[Tensor] = []

        def gate(part: int) -> Any:
            def call(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
                x = args[0] if gates is None else args[0] * gates[part].to(args[0])
                inputs.append(x)
                return (x,)

            return call

        def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            outputs.append(output)

        def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            reads.append(args[0])

        with ExitStack() as hooks:
            for part, site in enumerate((sites.attention_output, sites.ffn_output)):
                hooks.callback(site.register_forward_pre_hook(gate(part)).remove)
                hooks.callback(site.register_forward_hook(leave).remove)
            entry = sites.layer.get_submodule(adapter.ffn_inputs[0])
            hooks.callback(entry.register_forward_pre_hook(read).remove)
            call = self.calls[layer]
            found = sites.layer(hidden_BLD, *call.args, **call.kwargs)
        output: Tensor = found[0] if isinstance(found, tuple) else found
        after = hidden_BLD + outputs[0]
        # Pre-norm: the stream runs through. Post-norm: the FFN adds to what it reads.
        whole = after + outputs[1]
        runs_through = torch.allclose(whole, output, rtol=1e-3, atol=1e-4)
        stream = after, whole if runs_through else reads[0] + outputs[1]
        return _Seen((inputs[0], inputs[1]), stream, output)


class _Call(NamedTuple):
    """Arguments of a layer beside its hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout, whatever the mode."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
