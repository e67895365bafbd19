"""Hard-concrete gates: chances in closed form and in draws, the constraint, the plan."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import expit

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.rivals import Allowance
from agent_economy.rivals.l0 import START, L0Gates

SHAPE = LayerShape(
    hidden=8, heads=3, kv_heads=3, head_dim=4, ffn=40, ffn_matrices=2, block_size=16, causal=False
)
LAYERS, LONGEST = 2, 11


def flops_YN() -> torch.Tensor:
    tariff = layer_tariff(SHAPE, torch.ones(1, LONGEST, dtype=torch.bool))
    flops_N = tariff.served_flops_BN[0].clone()
    flops_N[: SHAPE.heads] += tariff.setup_flops_BU[0]
    return flops_N.expand(LAYERS, -1)


def spread(gates: L0Gates, seed: int = 0) -> L0Gates:
    """Every gate somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in gates.descending():
            table.copy_(torch.randn(table.shape, generator=generator) * 2)
    return gates


@pytest.mark.parametrize("coarse", [False, True])
def test_chances_are_those_of_the_draws(coarse: bool) -> None:
    gates = spread(L0Gates(flops_YN(), SHAPE.heads if coarse else None))
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([gates.gates_YN(generator).detach() for _ in range(8000)])
    assert draws.min() >= 0 and draws.max() <= 1
    open_YN = gates.open_YN().detach()
    # Four standard errors of a share of 8,000 draws are at most 0.022.
    torch.testing.assert_close((draws > 0).float().mean(0), open_YN, rtol=0, atol=0.025)
    expected = expit(gates.log_alpha_YN.detach().numpy() + 2 / 3 * math.log(11))
    if coarse:
        pair_Y2 = expit(gates.log_alpha_Y2.detach().numpy() + 2 / 3 * math.log(11))
        expected[:, : SHAPE.heads] *= pair_Y2[:, :1]
        expected[:, SHAPE.heads :] *= pair_Y2[:, 1:]
    torch.testing.assert_close(open_YN, torch.from_numpy(expected).float())
    spent = float((open_YN * flops_YN()).sum() / flops_YN().sum())
    assert float(gates.flops_fraction().detach()) == pytest.approx(spent, rel=1e-5)


def test_a_draws_mean_is_that_of_the_stretched_distribution() -> None:
    """By quadrature over u of the very definition."""
    gates = spread(L0Gates(flops_YN()))
    generator = torch.Generator().manual_seed(2)
    draws = torch.stack([gates.gates_YN(generator).detach() for _ in range(8000)])
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    log_alpha_YN1 = gates.log_alpha_YN.detach().double()[..., None]
    s = 1 / (1 + torch.exp(-(torch.log(u / (1 - u)) + log_alpha_YN1) * 1.5))
    mean_YN = (1.2 * s - 0.1).clamp(0, 1).mean(-1)
    torch.testing.assert_close(draws.double().mean(0), mean_YN, rtol=0, atol=0.02)


def test_training_starts_at_the_model() -> None:
    gates = L0Gates(flops_YN(), SHAPE.heads).eval()
    torch.testing.assert_close(gates.gates_YN(), torch.ones(LAYERS, SHAPE.agents))
    assert torch.equal(gates.gates_YN(), gates.gates_YN())
    closer = L0Gates(flops_YN(), SHAPE.heads, log_alpha=START - 0.1).eval()
    assert (closer.gates_YN() < 1).all()
    gates.train()
    one, other = gates.gates_YN(), gates.gates_YN()
    assert not torch.equal(one, other)


@pytest.mark.parametrize("heads", [None, 6])
@pytest.mark.parametrize("target", [0.6, 0.25])
def test_training_meets_the_constraint_and_keeps_who_matters(
    target: float, heads: int | None
) -> None:
    """Closing agent n costs w_n (1 - z_n)^2; the budget pays for the highest w per FLOP."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)
    gates = L0Gates(torch.rand(3, 18, generator=generator) + 0.5, heads)
    density_YN = 4 * torch.rand(3, 18, generator=generator)
    weight_YN = density_YN * gates.share_YN
    gated = {"params": gates.descending(), "lr": 0.1}
    climbing = {"params": gates.ascending(), "lr": 0.01, "maximize": True}
    adam = torch.optim.Adam([gated, climbing])
    spent = []
    for step in range(1400):
        annealed = 1 + (target - 1) * min(1.0, step / 500)
        adam.zero_grad()
        loss = (weight_YN * (1 - gates.gates_YN()).square()).sum()
        (loss + gates.lagrangian(annealed)).backward()
        adam.step()
        spent.append(float(gates.flops_fraction().detach()))
    assert sum(spent[-300:]) / 300 == pytest.approx(target, abs=0.06)
    assert float(gates.lambda_2[1].detach()) > 10  # it ascended
    open_YN = gates.open_YN().detach()
    kept, lost = density_YN[open_YN > 0.9], density_YN[open_YN < 0.1]
    assert kept.mean() > lost.mean() + 0.8


@pytest.mark.parametrize("budget", [0.7, 0.4, 0.15])
def test_the_plan_keeps_to_the_allowance_and_scales_are_its_gates(budget: float) -> None:
    for seed in range(5):
        gates = spread(L0Gates(flops_YN(), SHAPE.heads), seed)
        allowance = Allowance.of(SHAPE, LAYERS, budget, LONGEST)
        plan_YN = gates.plan_YN(allowance)
        assert allowance.holds(plan_YN)
        scale_YN = gates.scale_YN(plan_YN)
        assert gates.training  # asking for them changes no mode
        settled_YN = gates.eval().gates_YN().detach()
        worked_YN = plan_YN & (settled_YN > 0)
        assert worked_YN.any()
        assert torch.equal(scale_YN[worked_YN], settled_YN[worked_YN])
        assert (scale_YN[~worked_YN] == 1).all()
        chance_YN = gates.open_YN().detach()
        # Whoever is likelier than an open agent of its kind is open: heads cost the same, so do
        # whole blocks.
        for kind in (slice(0, 3), slice(3, 5)):
            chosen, chance = plan_YN[:, kind], chance_YN[:, kind]
            if chosen.any() and not chosen.all():
                assert chance[chosen].min() >= chance[~chosen].max() - 1e-6


def test_gradients_reach_gates_and_multipliers() -> None:
    gates = spread(L0Gates(flops_YN(), SHAPE.heads))
    with torch.no_grad():
        gates.lambda_2.fill_(0.5)
    (gates.gates_YN().sum() + gates.lagrangian(0.3)).backward()
    for name, parameter in gates.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    excess = float(gates.flops_fraction().detach()) - 0.3
    assert gates.lambda_2.grad is not None
    assert gates.lambda_2.grad.tolist() == pytest.approx([excess, excess**2], rel=1e-4)


def test_costs_must_make_sense() -> None:
    with pytest.raises(EconomyError, match="heads first"):
        L0Gates(torch.zeros(2, 5), 3)
    with pytest.raises(EconomyError, match="6 heads among 5 agents"):
        L0Gates(torch.ones(2, 5), 6)
