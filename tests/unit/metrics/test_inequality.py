"""Gini and Lorenz against their definitions and known vectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_economy.metrics.inequality import gini, lorenz

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=20).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def half_relative_mean_difference(x: torch.Tensor) -> float:
    """The definition, over all pairs."""
    n, total = len(x), float(x.sum())
    if total == 0:
        return 0.0
    return float((x[:, None] - x[None, :]).abs().sum()) / (2 * n * total)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 5.0, 5.0], 0.0),
        ([0.0, 0.0, 0.0, 1.0], 0.75),
        ([1.0, 2.0, 3.0, 4.0], 0.25),
        ([1.0, 3.0], 0.25),
        ([0.0, 0.0], 0.0),
        ([7.0], 0.0),
        ([], 0.0),
    ],
)
def test_known_vectors(values: list[float], expected: float) -> None:
    assert gini(torch.tensor(values)).item() == pytest.approx(expected)


@settings(deadline=None)
@given(x=VALUES)
def test_gini_is_its_definition(x: torch.Tensor) -> None:
    assert gini(x).item() == pytest.approx(half_relative_mean_difference(x), abs=1e-9)


@settings(deadline=None)
@given(x=VALUES, scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_gini_is_bounded_and_blind_to_scale_and_order(
    x: torch.Tensor, scale: float, seed: int
) -> None:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert -1e-12 <= gini(x).item() <= 1 - 1 / len(x) + 1e-12
    assert gini(x[order] * scale).item() == pytest.approx(gini(x).item(), abs=1e-9)


def test_gini_over_any_dimension_and_dtype() -> None:
    x = torch.randint(0, 9, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    for dim in (0, 1, -1):
        measured = gini(x, dim=dim)
        assert measured.dtype == torch.float64
        for index in torch.cartesian_prod(*[torch.arange(n) for n in measured.shape]):
            line = x.movedim(dim, -1)[tuple(index)].double()
            expected = half_relative_mean_difference(line)
            assert measured[tuple(index)].item() == pytest.approx(expected)
    assert gini(x.to(torch.bfloat16)).dtype == torch.float32
    torch.testing.assert_close(gini(x.float()), gini(x).float())


def test_gini_has_gradients_even_at_zero() -> None:
    x = torch.tensor([0.3, 1.0, 2.5, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gini, (x,))
    zero = torch.zeros(3, requires_grad=True)
    gini(zero).backward()
    assert torch.isfinite(zero.grad).all()


def test_lorenz_by_hand() -> None:
    curve = lorenz(torch.tensor([[4.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
    assert curve.population_share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    expected = torch.tensor([[0.0, 0.1, 0.3, 0.6, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0]])
    torch.testing.assert_close(curve.value_share, expected)


@settings(deadline=None)
@given(x=VALUES)
def test_lorenz_is_convex_below_the_diagonal_and_holds_the_gini(x: torch.Tensor) -> None:
    people, held = lorenz(x)
    assert bool((held <= people + 1e-9).all())
    assert bool((held.diff().diff() >= -1e-9).all())
    area = torch.trapezoid(held, people).item()
    assert 1 - 2 * area == pytest.approx(gini(x).item(), abs=1e-9)
