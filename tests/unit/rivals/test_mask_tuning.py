"""Tuned gates: against a dense solve, never worse than ones, and the same once they are weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from models import AGENTS, BLOCK_SIZE, FFN, HIDDEN, LAYERS, N_HEADS, tiny_batch, tiny_model
from scipy.sparse.linalg import lsmr
from torch import Tensor

from agent_economy.adapters import Adapter, adapter_for
from agent_economy.adapters.base import projection_weight
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import hooked
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.trace import trace
from agent_economy.rivals import Allowance, Evidence
from agent_economy.rivals.fisher_mask import FisherMask
from agent_economy.rivals.folding import columns_YW, fold_scales
from agent_economy.rivals.kwon_mask import KwonMask
from agent_economy.rivals.mask_tuning import tune
from agent_economy.tasks.utility import LabelledScore
from agent_economy.testing.adapter_contract import Gates

HEAD_DIM = HIDDEN // N_HEADS
BATCHES = [tiny_batch((11, 7, 4), 0), tiny_batch((9, 3, 1), 1)]


def adapter(architecture: str = "bert", head: Any = "classify") -> Adapter:
    return adapter_for(tiny_model(architecture, head), BLOCK_SIZE)


def some_plan(seed: int = 0, share: float = 0.6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(LAYERS, AGENTS, generator=generator) < share


def gated(of: Adapter, batch: dict[str, Any], factor_YN: Tensor) -> Any:
    """The model's output with every agent at a factor."""
    size = (*batch["input_ids"].shape, -1)
    gates = {layer: factor_N.float().expand(size) for layer, factor_N in enumerate(factor_YN)}
    with torch.no_grad():
        return MaskedExecutor(of).run(batch, Gates(gates))[0]


class Watched:
    """Inputs and outputs of everything in a layer, in one pass of the whole model."""

    def __init__(self, of: Adapter, batch: dict[str, Any], factors: list[tuple[Tensor, Tensor]]):
        self.x: dict[tuple[int, int], Tensor] = {}
        self.hidden: list[Tensor] = []
        self.read: list[Tensor] = []

        def site(part: int) -> Any:
            def change(layer: int, x: Tensor) -> Tensor:
                self.x[layer, part] = x * factors[layer][part].to(x)
                return self.x[layer, part]

            return change

        entries = [sites.layer.get_submodule(of.ffn_inputs[0]) for sites in of.sites]
        handles = [
            entry.register_forward_pre_hook(lambda module, args: self.read.append(args[0]))
            for entry in entries
        ]
        with (
            torch.no_grad(),
            hooked(of, lambda layer, hidden_BLD: self.hidden.append(hidden_BLD), site(0), site(1)),
        ):
            of.model(**batch)
        for handle in handles:
            handle.remove()


def dense_solve(
    of: Adapter,
    plan_YN: Tensor,
    scale_YX: Tensor,
    layer: int,
    part: int,
    *,
    pooled: bool,
    prenorm: bool,
) -> np.ndarray:
    """Gates of one sublayer by LSMR on the matrix of contributions, the earlier ones given."""
    shape = of.shape
    before = columns_YW(of, scale_YX.clone())
    open_Y = columns_YW(of, plan_YN.double())
    one = torch.ones((), dtype=torch.float64)
    dense = [(torch.ones_like(a), torch.ones_like(b)) for a, b in open_Y]
    factors = []
    for place, (o, s) in enumerate(zip(open_Y, before, strict=True)):
        tuned = [place < layer or (place == layer and each < part) for each in range(2)]
        factors.append(tuple(o[i] * (s[i] if tuned[i] else one) for i in range(2)))
    site = (of.sites[layer].attention_output, of.sites[layer].ffn_output)[part]
    weight_DW = projection_weight(site).detach()
    neurons = scale_YX.shape[1] == shape.heads + shape.ffn
    sizes = ([HEAD_DIM] * N_HEADS, [1] * FFN if neurons else [16, 16, 8])[part]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    rows_A, rows_c, kept = [], [], []
    for batch in BATCHES:
        whole, pruned = Watched(of, batch, dense), Watched(of, batch, factors)  # type: ignore[arg-type]
        real_BL = batch["attention_mask"].bool().clone()
        if pooled and layer == LAYERS - 1:
            real_BL[:, 1:] = False
        streams = []
        for seen in (whole, pruned):
            stream = seen.hidden[layer]
            if part == 1 and prenorm:
                out = of.sites[layer].attention_output
                stream = stream + seen.x[layer, 0] @ projection_weight(out).detach().T
            elif part == 1:
                stream = seen.read[layer]
            streams.append(stream[real_BL])
        x_TW = pruned.x[layer, part][real_BL]
        pieces = []
        kept = []
        for unit, (start, end) in enumerate(itertools.pairwise(starts)):
            if open_Y[layer][part][start] > 0:
                pieces.append((x_TW[:, start:end] @ weight_DW[:, start:end].T).flatten())
                kept.append(unit)
        target_TD = streams[0] + whole.x[layer, part][real_BL] @ weight_DW.T - streams[1]
        A = torch.stack(pieces, 1)
        rows_A.append(A)
        rows_c.append(target_TD.flatten() - A.sum(1))
    A, c = torch.cat(rows_A).double().numpy(), torch.cat(rows_c).double().numpy()
    r = lsmr(A, c, damp=1.0, atol=1e-12, btol=1e-12, maxiter=5000)[0]
    expected = np.ones(len(sizes))
    expected[kept] += r
    return expected


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "gpt2", "llama"])
@pytest.mark.parametrize("neurons", [False, True])
def test_gates_are_those_of_a_dense_solve(architecture: str, neurons: bool) -> None:
    causal = architecture in ("gpt2", "llama")
    of = adapter(architecture, "lm" if causal else "classify")
    plan_YN = some_plan()
    tuned = tune(of, BATCHES, plan_YN, neurons=neurons, bound=1e9)
    width = N_HEADS + FFN if neurons else AGENTS
    assert tuned.scale_YX.shape == (LAYERS, width)
    for layer, part in ((0, 0), (0, 1), (1, 1), (2, 0), (2, 1)):
        expected = dense_solve(
            of, plan_YN, tuned.scale_YX, layer, part, pooled=not causal, prenorm=causal
        )
        found = tuned.scale_YX[layer, N_HEADS:] if part else tuned.scale_YX[layer, :N_HEADS]
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("neurons", [False, True])
def test_least_squares_never_reconstructs_worse_than_ones(seed: int, neurons: bool) -> None:
    of = adapter(head="none" if seed % 2 else "classify")
    tuned = tune(of, BATCHES, some_plan(seed, 0.5), neurons=neurons, bound=1e9)
    measured = ~tuned.missing_Y2.isnan()
    assert measured.sum() >= 4
    assert (tuned.left_Y2 <= tuned.missing_Y2)[measured].all()
    assert (tuned.left_Y2 < 0.99 * tuned.missing_Y2)[measured].any()


def test_more_gates_reconstruct_better() -> None:
    plan_YN = some_plan(3)
    by_block = tune(adapter(), BATCHES, plan_YN, neurons=False, bound=1e9)
    by_neuron = tune(adapter(), BATCHES, plan_YN, neurons=True, bound=1e9)
    # The first layer's attention is the same; its FFN then starts from the same stream.
    torch.testing.assert_close(by_block.scale_YX[0, :N_HEADS], by_neuron.scale_YX[0, :N_HEADS])
    torch.testing.assert_close(by_block.missing_Y2[0], by_neuron.missing_Y2[0])
    assert by_neuron.left_Y2[0, 1] < by_block.left_Y2[0, 1]


def test_with_everybody_open_there_is_nothing_to_make_up_for() -> None:
    plan_YN = torch.ones(LAYERS, AGENTS, dtype=torch.bool)
    tuned = tune(adapter(), BATCHES, plan_YN)
    torch.testing.assert_close(tuned.scale_YX, torch.ones_like(tuned.scale_YX), rtol=0, atol=1e-4)


def test_gates_out_of_bounds_end_the_tuning() -> None:
    plan_YN = some_plan()
    free = tune(adapter(), BATCHES, plan_YN, bound=1e9).scale_YX
    largest_Y2 = torch.stack([free[:, :N_HEADS].abs().amax(1), free[:, N_HEADS:].abs().amax(1)], 1)
    order = largest_Y2.flatten()
    place = int((order[1:] > order[0]).nonzero()[0]) + 1
    bound = float(torch.cat((order[:place], order[place : place + 1] * 0)).max()) + 1e-6
    held = tune(adapter(), BATCHES, plan_YN, bound=bound).scale_YX
    layer, part = divmod(place, 2)
    torch.testing.assert_close(held[:layer], free[:layer])
    assert (held[layer + 1 :] == 1).all()
    if part:
        torch.testing.assert_close(held[layer, :N_HEADS], free[layer, :N_HEADS])
        assert (held[layer, N_HEADS:] == 1).all()
    else:
        assert (held[layer] == 1).all()


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_folded_scales_are_gates(architecture: str) -> None:
    """The plan in the changed model is the plan with real-valued gates in the old one."""
    generator = torch.Generator().manual_seed(1)
    plan_YN = some_plan(2)
    scale_YN = torch.randn(LAYERS, AGENTS, generator=generator)
    plain, changed = adapter(architecture, "none"), adapter(architecture, "none")
    fold_scales(changed, scale_YN)
    for batch in BATCHES:
        expected = gated(plain, batch, plan_YN * scale_YN).last_hidden_state
        found = gated(changed, batch, plan_YN.double()).last_hidden_state
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    by_neuron = torch.cat(
        (
            scale_YN[:, :N_HEADS],
            scale_YN[:, N_HEADS:].repeat_interleave(torch.tensor([16, 16, 8]), 1),
        ),
        1,
    )
    again = adapter(architecture, "none")
    fold_scales(again, by_neuron)
    for one, other in zip(changed.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_scales_must_fit() -> None:
    with pytest.raises(EconomyError, match=r"one per agent, or \(3, 44\)"):
        fold_scales(adapter(), torch.ones(LAYERS, 9))
    with pytest.raises(EconomyError, match="not numbers"):
        fold_scales(adapter(), torch.full((LAYERS, AGENTS), torch.nan))


def test_the_rival_plans_like_the_fisher_mask_and_tunes_its_agents() -> None:
    of = adapter()
    labels = torch.tensor([0, 2, 1])
    batches: list[dict[str, Any]] = [batch | {"labels": labels} for batch in BATCHES]
    utility = LabelledScore("accuracy", regression=False)
    evidence = Evidence(of, batches, trace(of, batches, utility.loss, probes=1), utility)
    before = {name: weight.clone() for name, weight in of.model.state_dict().items()}
    of.model.train()  # tuned without dropout all the same
    within = Allowance.of(of.shape, LAYERS, 0.5, 11)
    rival = KwonMask()
    plan_YN = rival.choose(evidence, within)
    assert of.model.training
    of.model.eval()
    assert torch.equal(plan_YN, FisherMask().choose(evidence, within))
    assert all(torch.equal(before[name], now) for name, now in of.model.state_dict().items())
    expected = tune(of, batches, plan_YN).scale_YX
    assert torch.equal(rival.scale_YX, expected)
    open_Y = columns_YW(of, plan_YN)
    scale_Y = columns_YW(of, rival.scale_YX)
    for (heads, neurons), (heads_scale, neurons_scale) in zip(open_Y, scale_Y, strict=True):
        assert (heads_scale[~heads] == 1).all() and (neurons_scale[~neurons] == 1).all()
    assert (rival.scale_YX != 1).any()
