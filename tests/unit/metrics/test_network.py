"""Networks of payments: hand-made flows, and networkx as the oracle."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_economy.metrics.network import (
    CONNECTED,
    centrality,
    circulation,
    components,
    cycle_lengths,
    rewired,
    triad_scores,
    triads,
)


def flow(*edges: tuple[int, int, float], size: int = 6) -> np.ndarray:
    found = np.zeros((size, size))
    for start, end, width in edges:
        found[start, end] = width
    return found


def random_links(seed: int, size: int = 12, density: float = 0.25) -> np.ndarray:
    linked = np.random.default_rng(seed).random((size, size)) < density
    np.fill_diagonal(linked, False)
    return linked


def test_a_ring_with_a_tail() -> None:
    """0 -> 1 -> 2 -> 0 carries 2, 3 of it on one edge; 2 -> 3 runs off; 4 and 5 pay nobody."""
    ring = flow((0, 1, 2.0), (1, 2, 3.0), (2, 0, 2.0), (2, 3, 1.0))
    parts = components(ring)
    assert parts[:3] == (4, 1, 2)
    assert parts.largest_strong == pytest.approx(3 / 4)
    assert parts.strong_flow == pytest.approx(7 / 8)
    found = circulation(ring)
    assert found.cyclic_share == pytest.approx(6 / 8)
    assert found.cyclic_share + found.acyclic_share == pytest.approx(1)
    assert cycle_lengths(found.cyclic_NN) == pytest.approx({3: 6.0})


def test_mutual_payments_and_a_square() -> None:
    both = flow((0, 1, 5.0), (1, 0, 3.0), (1, 2, 2.0), (2, 3, 2.0), (3, 0, 2.0), (4, 5, 9.0))
    found = circulation(both)
    # Five from 0 to 1: three come back at once, two round the square.
    assert found.cyclic_share == pytest.approx((6 + 8) / 23)
    assert cycle_lengths(found.cyclic_NN) == pytest.approx({2: 6.0, 4: 8.0})


def test_nothing_goes_round_in_a_chain() -> None:
    chain = flow((0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0))
    assert circulation(chain).cyclic_share == 0
    assert cycle_lengths(circulation(chain).cyclic_NN) == {}
    assert components(chain).strong_flow == 0
    nobody = np.zeros((3, 3))
    assert components(nobody).nodes == 0 and circulation(nobody).cyclic_share == 0


@given(seed=st.integers(0, 10_000))
def test_a_circulation_balances_and_leaves_no_cycle(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 9))
    flow_NN = generator.random((size, size)) * (generator.random((size, size)) < 0.5)
    np.fill_diagonal(flow_NN, 0.0)
    found = circulation(flow_NN)
    cyclic = found.cyclic_NN
    assert (cyclic >= 0).all() and (cyclic <= flow_NN + 1e-9).all()
    np.testing.assert_allclose(cyclic.sum(0), cyclic.sum(1), atol=1e-7)
    rest = nx.from_numpy_array(np.where(flow_NN - cyclic > 1e-6, 1, 0), create_using=nx.DiGraph)
    assert nx.is_directed_acyclic_graph(rest)
    assert sum(cycle_lengths(cyclic).values()) == pytest.approx(cyclic.sum(), abs=1e-6)


@given(seed=st.integers(0, 10_000), density=st.floats(0.05, 0.9))
def test_triads_as_networkx_counts_them(seed: int, density: float) -> None:
    linked = random_links(seed, 9, density)
    census = nx.triadic_census(nx.from_numpy_array(linked, create_using=nx.DiGraph))
    assert triads(linked) == {name: census[name] for name in CONNECTED}


@given(seed=st.integers(0, 10_000))
def test_rewiring_keeps_degrees(seed: int) -> None:
    linked = random_links(seed)
    random = rewired(linked, np.random.default_rng(seed))
    assert (random.sum(0) == linked.sum(0)).all() and (random.sum(1) == linked.sum(1)).all()
    assert not random.diagonal().any()


def test_rewiring_reaches_every_network_alike() -> None:
    """Four agents, out-degrees (2, 1, 1, 1), in-degrees (1, 2, 1, 1): all networks, by counting."""
    start = np.array([[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    outs, ins = start.sum(1), start.sum(0)
    places = [(i, j) for i in range(4) for j in range(4) if i != j]
    every = set()
    for bits in range(1 << len(places)):
        made = np.zeros((4, 4), dtype=bool)
        for bit, place in enumerate(places):
            made[place] = bits >> bit & 1
        if (made.sum(1) == outs).all() and (made.sum(0) == ins).all():
            every.add(made.tobytes())
    generator, seen, current = np.random.default_rng(0), {}, start
    for _ in range(4000):
        current = rewired(current, generator, trades=12)
        seen[current.tobytes()] = seen.get(current.tobytes(), 0) + 1
    assert set(seen) == every
    expected = 4000 / len(every)
    chi = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi < len(every) + 4 * np.sqrt(2 * len(every))


def test_planted_rings_stand_out_and_random_networks_do_not() -> None:
    generator = np.random.default_rng(1)
    linked = random_links(3, 40, 0.04)
    for _ in range(25):
        one, two, three = generator.choice(40, 3, replace=False)
        linked[one, two] = linked[two, three] = linked[three, one] = True
    assert triad_scores(linked, samples=60)["030C"].z > 3
    plain = [triad_scores(random_links(seed, 30, 0.1), samples=60) for seed in range(6)]
    scores = np.array([[score.z for score in each.values()] for each in plain])
    assert np.nanmean(np.abs(scores) > 3) < 0.05


def test_money_makes_central() -> None:
    found = centrality(flow((0, 2, 1.0), (1, 2, 1.0), (2, 3, 0.5), (0, 1, 0.1)))
    assert found["pagerank"].argmax() in (2, 3) and found["pagerank"].sum() == pytest.approx(1)
    assert found["received"].argmax() == 2 and found["paid"][0] == pytest.approx(1.1)
    assert found["partners"].tolist() == [2, 2, 3, 1, 0, 0]
