import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_economy.mechanisms.order import descending

FLOATS = st.floats(0, 2.0**127, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_sorts_from_high_to_low_with_ties_by_position(values: list[float]) -> None:
    x = torch.tensor([values], dtype=torch.float32)
    expected = sorted(range(len(values)), key=lambda i: (-x[0, i].item(), i))
    assert descending(x)[0].tolist() == expected


def test_each_row_by_itself_infinity_first() -> None:
    x = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, torch.inf]])
    assert descending(x).tolist() == [[1, 2, 0], [2, 0, 1]]


def test_views_and_doubles() -> None:
    x = torch.rand(3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = x.transpose(1, 2)
    expected = turned.sort(dim=-1, descending=True, stable=True).indices
    assert torch.equal(descending(turned), expected)


def test_empty_rows() -> None:
    assert descending(torch.zeros(2, 0)).shape == (2, 0)
