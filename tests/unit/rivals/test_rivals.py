"""Static masks: exact knapsacks, supply at every row length, and what each rival maximises."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import torch
from models import tiny_batch, tiny_model
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.executors.reading import reading_of
from agent_economy.executors.trace import trace
from agent_economy.rivals import RIVALS, Allowance, Evidence
from agent_economy.rivals.fisher_mask import FisherMask
from agent_economy.rivals.greedy_mask import GreedyMask
from agent_economy.rivals.knapsack import best_plan
from agent_economy.tasks.utility import LabelledScore

LONGEST = 11
BUDGETS = (0.9, 0.6, 0.35, 0.1, 0.01)
NAMES = (
    *("fisher_mask", "greedy_mask", "kwon_mask", "magnitude_mask", "michel_mask", "random_mask"),
    "taylor_mask",
)


def shape(kv_heads: int = 3, causal: bool = False) -> LayerShape:
    """Three heads, and blocks of 16, 16 and 8 neurons."""
    return LayerShape(
        hidden=8, heads=3, kv_heads=kv_heads, head_dim=4, ffn=40, ffn_matrices=2, block_size=16,
        causal=causal,
    )  # fmt: skip


def spend(form: LayerShape, plan_YN: Tensor, length: int, pooled: bool = False) -> int:
    """FLOPs of a plan on a row, counted one agent at a time."""
    tariff = layer_tariff(form, torch.ones(1, length, dtype=torch.bool))
    group, total = form.heads // form.kv_heads, 0
    for layer, plan_N in enumerate(plan_YN.tolist()):
        served = 1 if pooled and layer == len(plan_YN) - 1 else length
        for agent, taken in enumerate(plan_N):
            if taken:
                total += int(tariff.token_flops_BNL[0, agent].expand(length)[:served].sum())
        for unit in range(form.kv_heads):
            if any(plan_N[unit * group : (unit + 1) * group]):
                total += int(tariff.setup_flops_U[unit]) * length
    return total


@pytest.mark.parametrize(
    ("kv_heads", "causal", "pooled", "shortest"),
    [
        (3, False, False, 1),
        (1, False, False, 1),
        (1, True, False, 1),
        (3, False, True, 1),
        (3, False, True, 4),
    ],
)
@pytest.mark.parametrize("budget", [0.8, 0.5, 0.3, 0.12, 0.0])
def test_the_knapsack_is_exact(
    kv_heads: int, causal: bool, pooled: bool, shortest: int, budget: float
) -> None:
    form = shape(kv_heads, causal)
    allowance = Allowance.of(form, 2, budget, LONGEST, shortest=shortest, pooled=pooled)
    every = torch.tensor(list(itertools.product((False, True), repeat=2 * form.agents)))
    plans = every.view(-1, 2, form.agents)
    heads = plans[..., :3].unflatten(-1, (kv_heads, 3 // kv_heads)).any(-1)
    fits = torch.ones(len(plans), dtype=torch.bool)
    for row in range(len(allowance.most_flops_R)):
        flops = (plans * allowance.served_flops_RYN[row]).sum((1, 2))
        flops = flops + (heads * allowance.setup_flops_RU[row]).sum((1, 2))
        fits &= flops <= allowance.most_flops_R[row]
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        score_YN = torch.rand(2, form.agents, generator=generator, dtype=torch.float64) ** 3
        plan_YN = best_plan(score_YN, allowance)
        assert allowance.holds(plan_YN)
        best = (plans[fits] * score_YN).sum((1, 2)).max()
        assert float((score_YN * plan_YN).sum()) == pytest.approx(float(best), rel=1e-12)


def test_lengths_between_can_bind() -> None:
    """With a pooled last layer some plans keep to supply at both ends alone: all plans tried."""
    form = shape()
    ends = Allowance.of(form, 2, 0.5, LONGEST, pooled=True)
    bound = []
    for number in range(2 ** (2 * form.agents)):
        bits = [bool(number >> place & 1) for place in range(2 * form.agents)]
        plan_YN = torch.tensor(bits).view(2, form.agents)
        over_R = ends.spend_flops_R(plan_YN) > ends.most_flops_R
        if over_R.any() and not over_R[0] and not over_R[-1]:
            bound.append(plan_YN)
    assert bound and not any(ends.holds(plan_YN) for plan_YN in bound)


@pytest.mark.parametrize(
    ("layers", "heads", "ffn", "block_size"),
    [(6, 12, 1536, 128), (6, 12, 1536, 64), (12, 12, 3072, 128), (12, 12, 3072, 144)],
)
def test_the_knapsack_is_quick(layers: int, heads: int, ffn: int, block_size: int) -> None:
    hidden = ffn // 4
    form = LayerShape(hidden, heads, heads, hidden // heads, ffn, 2, block_size, causal=False)
    allowance = Allowance.of(form, layers, 0.25, 512, pooled=True)
    generator = torch.Generator().manual_seed(0)
    score_YN = torch.rand(layers, form.agents, generator=generator, dtype=torch.float64) ** 3
    start = time.process_time()
    plan_YN = best_plan(score_YN, allowance)
    assert time.process_time() - start < 1.5  # tenths of a second where nothing else runs
    assert allowance.holds(plan_YN) and plan_YN.any()
    assert (allowance.spend_flops_R(plan_YN) > 0.9 * allowance.most_flops_R).any()


@pytest.mark.parametrize(
    ("kv_heads", "causal", "pooled"),
    [(3, False, False), (3, True, False), (1, False, False), (1, True, False), (3, False, True)],
)
@pytest.mark.parametrize("shortest", [1, 5])
def test_what_holds_for_some_lengths_holds_for_all_between(
    kv_heads: int, causal: bool, pooled: bool, shortest: int
) -> None:
    form = shape(kv_heads, causal)
    allowance = Allowance.of(form, 2, 0.5, LONGEST, shortest=shortest, pooled=pooled)
    everybody = torch.ones(2, form.agents, dtype=torch.bool)
    lengths = range(shortest, LONGEST + 1)
    held = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        plan_YN = torch.rand(2, form.agents, generator=generator) < 0.4
        for row, length in enumerate(lengths if pooled else (shortest, LONGEST)):
            found = int(allowance.spend_flops_R(plan_YN)[row])
            assert found == spend(form, plan_YN, length, pooled)
        if allowance.holds(plan_YN):
            held += 1
            for length in lengths:
                dense = spend(form, everybody, length, pooled)
                assert spend(form, plan_YN, length, pooled) <= 0.5 * dense
    assert held


@pytest.fixture(scope="module", params=["bert", "llama"])
def evidence(request: pytest.FixtureRequest) -> Evidence:
    model = tiny_model(request.param, "classify")
    adapter = adapter_for(model, 16)
    utility = LabelledScore("accuracy", regression=False)
    batches = []
    for seed, lengths in enumerate([(11, 7, 4), (9, 3, 1)]):
        labels = torch.tensor([0, 2, 1])
        batches.append(tiny_batch(lengths, seed) | {"labels": labels})
    return Evidence(adapter, batches, trace(adapter, batches, utility.loss, probes=1), utility)


def allowed(evidence: Evidence, budget: float) -> Allowance:
    """What a plan for the model may spend."""
    pooled = reading_of(evidence.adapter).pooled
    return Allowance.of(evidence.adapter.shape, 3, budget, LONGEST, pooled=pooled)


def test_every_rival_is_found() -> None:
    assert set(NAMES) <= set(RIVALS.members())
    with pytest.raises(EconomyError, match="did you mean 'fisher_mask'"):
        RIVALS.get("fischer_mask")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_masks_keep_to_supply_in_a_real_forward(
    evidence: Evidence, name: str, budget: float
) -> None:
    options: dict[str, Any] = {"forwards": 4} if name == "greedy_mask" else {}
    rival = RIVALS.get(name)(seed=3, **options)  # type: ignore[call-arg]
    plan_YN = rival.fit(evidence, budget, LONGEST)
    assert torch.equal(plan_YN, RIVALS.get(name)(seed=3, **options).fit(evidence, budget, LONGEST))
    economy = Economy.from_model(
        evidence.adapter.model, block_size=16, budget_fraction=budget,
        mechanism={"name": "uniform"}, policy={"name": "constant"},
    )  # fmt: skip
    economy.market.plan_YN = plan_YN
    for batch in evidence.batches:
        with torch.no_grad():
            receipt = economy(**batch).receipt
        assert receipt.flops_fraction <= budget
        served = torch.stack([receipt.allocation_BLN(y).sum((0, 1)) > 0 for y in range(3)])
        assert torch.equal(served, plan_YN)
    if budget > 0.3:  # what is left would not pay for another agent of any kind
        allowance = allowed(evidence, budget)
        for place in (~plan_YN).nonzero().tolist():
            more_YN = plan_YN.clone()
            more_YN[tuple(place)] = True
            assert name in ("fisher_mask", "kwon_mask") or not allowance.holds(more_YN)


def test_a_full_budget_serves_everybody(evidence: Evidence) -> None:
    assert RIVALS.get("taylor_mask")().fit(evidence, 1.0, LONGEST).all()


def test_row_gradients_are_those_of_shared_gates(evidence: Evidence) -> None:
    """Against a finite difference of the measured loss of one row, in float32."""
    adapter, batch = evidence.adapter, evidence.batches[0]
    step, row = 1e-2, 1
    for layer, agent in ((0, 1), (1, adapter.shape.heads), (2, 2)):
        sides = []
        for sign in (1, -1):
            gates = [torch.ones(3, 11, adapter.shape.agents) for _ in adapter.sites]
            gates[layer][..., agent] += sign * step
            sides.append(_row_loss(evidence, batch, gates)[row])
        measured = float(sides[0] - sides[1]) / (2 * step)
        found = float(evidence.gradient_XYN[row, layer, agent])
        assert found == pytest.approx(measured, rel=0.02, abs=2e-4)


def _row_loss(evidence: Evidence, batch: dict[str, Any], gates: list[Tensor]) -> Tensor:
    from agent_economy.executors.ablation import row_losses

    utility = evidence.utility
    return row_losses(
        evidence.adapter, batch, lambda out, b: utility.row_loss(out, b, out.logits), gates
    )


def test_rearranging_lowers_what_the_fisher_block_expects(evidence: Evidence) -> None:
    gradient_XYN = evidence.gradient_XYN
    fisher_YNN = torch.einsum("xyn,xym->ynm", gradient_XYN, gradient_XYN) / len(gradient_XYN)

    def expected(plan_YN: Tensor) -> float:
        closed_YN = (~plan_YN).double()
        return float(torch.einsum("yn,ynm,ym->", closed_YN, fisher_YNN, closed_YN))

    for budget in (0.7, 0.5, 0.3):
        plain = FisherMask(rearrange=False).fit(evidence, budget, LONGEST)
        better = FisherMask().fit(evidence, budget, LONGEST)
        assert expected(better) <= expected(plain)
        assert better.sum() == plain.sum()
        # A local optimum: no swap of two heads or of two whole blocks of a layer helps.
        heads = evidence.adapter.shape.heads
        allowance = allowed(evidence, budget)
        for layer, i, j in itertools.product(range(3), range(heads + 2), range(heads + 2)):
            if (i < heads) == (j < heads) and better[layer, i] and not better[layer, j]:
                swapped = better.clone()
                swapped[layer, i], swapped[layer, j] = False, True
                worse = expected(swapped) >= expected(better) - 1e-9
                assert worse or not allowance.holds(swapped)


def test_greedy_search_never_ends_worse_than_it_began(evidence: Evidence) -> None:
    begun = min(
        evidence.loss(RIVALS.get(name)().fit(evidence, 0.5, LONGEST))
        for name in ("fisher_mask", "taylor_mask")
    )
    ends = [evidence.loss(GreedyMask(forwards=n).fit(evidence, 0.5, LONGEST)) for n in (2, 10, 40)]
    assert ends[0] == pytest.approx(begun) and ends[0] >= ends[1] >= ends[2]
    assert ends[2] < begun


def test_the_taylor_mask_maximises_summed_row_gradients(evidence: Evidence) -> None:
    plan_YN = RIVALS.get("taylor_mask")().fit(evidence, 0.5, LONGEST)
    score_YN = evidence.gradient_XYN.abs().mean(0)
    allowance = allowed(evidence, 0.5)
    best = float((score_YN * plan_YN).sum())
    for seed in range(20):  # no random mask within supply scores more
        other = RIVALS.get("random_mask")(seed=seed).choose(evidence, allowance)
        assert float((score_YN * other).sum()) <= best


def test_evidence_must_belong_together(evidence: Evidence) -> None:
    wrong = Evidence(evidence.adapter, evidence.batches[:1], evidence.trace, evidence.utility)
    with pytest.raises(EconomyError, match="trace the same batches"):
        RIVALS.get("taylor_mask")().fit(wrong, 0.5, LONGEST)
    with pytest.raises(EconomyError, match="at least one token"):
        RIVALS.get("taylor_mask")().fit(evidence, 0.5, 0)


@pytest.mark.parametrize("scope", ["sequence", "token", "batch"])
def test_a_plan_may_move_flops_between_layers_but_not_exceed_supply(scope: str) -> None:
    economy = Economy.from_model(
        tiny_model("bert"), block_size=16, budget_fraction=0.4,
        mechanism={"name": "uniform_price", "scope": scope}, policy={"name": "constant"},
    )  # fmt: skip
    plan_YN = torch.zeros(3, 7, dtype=torch.bool)
    plan_YN[1] = True  # all of one layer in three
    economy.market.plan_YN = plan_YN
    with torch.no_grad():
        assert economy(**tiny_batch()).receipt.flops_fraction == pytest.approx(1 / 3)
        plan_YN[0, :4] = True
        with pytest.raises(EconomyError, match="exceeds supply"):
            economy(**tiny_batch())
