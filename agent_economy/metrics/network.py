"""Transactions as a network: components, circulation, cycles, triads, centrality.

After the studies of complementary currencies: Sarafu (Mattsson, Criscione and Takes 2023) for flow
and circulation, Sardex (Iosifidis et al. 2018) for cycles against null models. ``flow_NN[i, j]`` is
what ``i`` paid ``j`` over a window of time; the diagonal is ignored.
"""

from __future__ import annotations

from typing import NamedTuple

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.optimize import linprog
from scipy.sparse import csr_array

#: Flow below this share of the largest edge is rounding.
_ROUNDING = 1e-9

#: The triads of three linked nodes, as Davis and Leinhardt (1972) name them.
CONNECTED = (
    *("021D", "021U", "021C", "111D", "111U", "030T", "030C"),
    *("201", "120D", "120U", "120C", "210", "300"),
)


class Components(NamedTuple):
    """How far payments hang together.

    Attributes:
        nodes: agents that paid or were paid.
        weak: weakly connected components among them.
        strong: strongly connected components among them.
        largest_weak: share of these agents in the largest weak component.
        largest_strong: share in the largest strong one.
        strong_flow: share of all flow that stays inside a strong component, an upper bound of what
            can be part of a cycle.
    """

    nodes: int
    weak: int
    strong: int
    largest_weak: float
    largest_strong: float
    strong_flow: float


class Circulation(NamedTuple):
    """A flow split into what goes round and what runs down.

    Attributes:
        cyclic_NN: the largest circulation inside the flow: every agent gets what it gives.
        cyclic_share: its share of the flow.
        acyclic_share: the rest, in which no cycle is left.
    """

    cyclic_NN: Float[ndarray, "N N"]
    cyclic_share: float
    acyclic_share: float


def components(flow_NN: Float[ndarray, "N N"]) -> Components:
    """Weak and strong components of the agents that take part; no agent: all zero."""
    flow_NN = _clean(flow_NN)
    graph = _graph(flow_NN)
    graph.remove_nodes_from([node for node, degree in list(graph.degree) if degree == 0])
    if not graph:
        return Components(0, 0, 0, 0.0, 0.0, 0.0)
    weak = list(nx.weakly_connected_components(graph))
    strong = list(nx.strongly_connected_components(graph))
    inside = sum(flow_NN[np.ix_(list(part), list(part))].sum() for part in strong)
    return Components(
        nodes=len(graph),
        weak=len(weak),
        strong=len(strong),
        largest_weak=max(map(len, weak)) / len(graph),
        largest_strong=max(map(len, strong)) / len(graph),
        strong_flow=float(inside / flow_NN.sum()),
    )


def circulation(flow_NN: Float[ndarray, "N N"]) -> Circulation:
    """The largest circulation inside a flow, by linear programming.

    ``max sum c_ij  s.t.  0 <= c_ij <= f_ij,  sum_j c_ij = sum_j c_ji``. What is left has no cycle:
    one would add to the circulation. The share is unique, the circulation itself need not be.
    """
    flow_NN = _clean(flow_NN)
    source_E, target_E = np.nonzero(flow_NN)
    total = flow_NN.sum()
    if not len(source_E):
        return Circulation(np.zeros_like(flow_NN), 0.0, 0.0)
    edges, scale = np.arange(len(source_E)), flow_NN.max()
    sign = np.concatenate([np.ones(len(edges)), -np.ones(len(edges))])
    place = np.concatenate([source_E, target_E]), np.concatenate([edges, edges])
    balance = csr_array((sign, place), shape=(len(flow_NN), len(edges)))
    upper_E = flow_NN[source_E, target_E] / scale
    found = linprog(
        -np.ones(len(edges)),
        A_eq=balance,
        b_eq=np.zeros(len(flow_NN)),
        bounds=np.stack([np.zeros_like(upper_E), upper_E], 1),
        method="highs",
    )
    cyclic_NN = np.zeros_like(flow_NN)
    cyclic_NN[source_E, target_E] = np.clip(found.x, 0.0, upper_E) * scale
    share = float(cyclic_NN.sum() / total)
    return Circulation(cyclic_NN, share, 1.0 - share)


def cycle_lengths(cyclic_NN: Float[ndarray, "N N"]) -> dict[int, float]:
    """Flow of a circulation by the length of the cycles it is peeled into.

    Mutual payments first, then again and again the shortest cycle through the thinnest edge left.
    One decomposition of many: lengths are an account of the flow, not a property of each edge.

    Returns:
        Cycle length to flow, summed over the cycle's edges; together the whole circulation.
    """
    left_NN = _clean(cyclic_NN).copy()
    least = _ROUNDING * max(left_NN.max(initial=0.0), 1e-300)
    mutual_NN = np.minimum(left_NN, left_NN.T)
    found: dict[int, float] = {2: float(mutual_NN.sum())} if mutual_NN.any() else {}
    left_NN = left_NN - mutual_NN
    left_NN[left_NN <= least] = 0.0
    graph = _graph(left_NN)
    while graph.number_of_edges():
        start, end, width = min(graph.edges(data="weight"), key=lambda edge: edge[2])
        try:
            path = nx.shortest_path(graph, end, start)
        except nx.NetworkXNoPath:  # a remnant of rounding: nothing flows back
            graph.remove_edge(start, end)
            continue
        found[len(path)] = found.get(len(path), 0.0) + len(path) * width
        for one, other in zip([start, *path[:-1]], path, strict=True):
            graph[one][other]["weight"] -= width
            if graph[one][other]["weight"] <= least:
                graph.remove_edge(one, other)
    return dict(sorted(found.items()))


def triads(linked_NN: Bool[ndarray, "N N"]) -> dict[str, int]:
    """How often each triad of three linked nodes occurs, by matrix products (Moody 1998).

    Args:
        linked_NN: who paid whom; the diagonal is ignored.
    """
    linked = linked_NN & ~np.eye(len(linked_NN), dtype=bool)
    mutual = (linked & linked.T).astype(float)
    one_way = linked.astype(float) - mutual
    apart = (~(linked | linked.T) & ~np.eye(len(linked), dtype=bool)).astype(float)
    back = one_way.T
    chain, out_star, in_star = one_way @ one_way, back @ one_way, one_way @ back
    pair = mutual @ mutual
    counts = {
        "021D": (out_star * apart).sum() / 2,
        "021U": (in_star * apart).sum() / 2,
        "021C": (chain * apart).sum(),
        "111D": ((mutual @ back) * apart).sum(),
        "111U": ((mutual @ one_way) * apart).sum(),
        "030T": (chain * one_way).sum(),
        "030C": (chain * back).sum() / 3,
        "201": (pair * apart).sum() / 2,
        "120D": (out_star * mutual).sum() / 2,
        "120U": (in_star * mutual).sum() / 2,
        "120C": (chain * mutual).sum(),
        "210": (pair * one_way).sum(),
        "300": (pair * mutual).sum() / 6,
    }
    return {name: round(float(count)) for name, count in counts.items()}


def rewired(
    linked_NN: Bool[ndarray, "N N"], generator: np.random.Generator, trades: int | None = None
) -> Bool[ndarray, "N N"]:
    """A random network in which every agent pays and is paid by as many others as before.

    Curveball trades (Strona et al. 2014; directed without self-loops, Carstens, Berger and Strona
    2016): two agents pool the partners that only one of them pays, and deal them out again.

    Args:
        linked_NN: who paid whom.
        generator: of the draws.
        trades: how many; five per agent unless told.
    """
    linked = linked_NN & ~np.eye(len(linked_NN), dtype=bool)
    for _ in range(5 * len(linked) if trades is None else trades):
        one, other = generator.choice(len(linked), 2, replace=False)
        pool = linked[one] ^ linked[other]
        pool[[one, other]] = False  # nobody pays itself
        partners = np.flatnonzero(pool)
        keeps = int(linked[one, partners].sum())
        if keeps in (0, len(partners)):
            continue
        dealt = generator.permutation(partners)
        linked[one, partners], linked[other, partners] = False, False
        linked[one, dealt[:keeps]], linked[other, dealt[keeps:]] = True, True
    return linked


class Triad(NamedTuple):
    """One kind of triad against networks of the same degrees.

    Attributes:
        seen: how often it occurs.
        expected: mean over the random networks.
        spread: their standard deviation.
        z: ``(seen - expected) / spread``; NaN where the degrees leave no choice.
    """

    seen: int
    expected: float
    spread: float
    z: float


def triad_scores(
    linked_NN: Bool[ndarray, "N N"], *, samples: int = 200, seed: int = 0
) -> dict[str, Triad]:
    """Every triad's count against degree-preserving random networks.

    Args:
        linked_NN: who paid whom.
        samples: random networks.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    seen = triads(linked_NN)
    random, drawn = linked_NN, []
    for _ in range(samples):
        random = rewired(random, generator)
        drawn.append(triads(random))
    scores = {}
    for name, count in seen.items():
        values = np.array([draw[name] for draw in drawn], dtype=float)
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        z = (count - mean) / spread if spread > 0 else float("nan")
        scores[name] = Triad(count, mean, spread, z)
    return scores


def centrality(flow_NN: Float[ndarray, "N N"]) -> dict[str, Float[ndarray, "N"]]:
    """What each agent paid, was paid, how many partners it had, and its weighted PageRank.

    PageRank follows the money: an agent is central that is paid much by agents that are.
    """
    flow_NN = _clean(flow_NN)
    graph = _graph(flow_NN)
    rank = nx.pagerank(graph, weight="weight") if flow_NN.any() else dict.fromkeys(graph, 0.0)
    linked = flow_NN > 0
    return {
        "paid": flow_NN.sum(1),
        "received": flow_NN.sum(0),
        "partners": (linked | linked.T).sum(1).astype(float),
        "pagerank": np.array([rank[node] for node in range(len(flow_NN))], dtype=float),
    }


def _clean(flow_NN: ndarray) -> ndarray:
    """Without payments to oneself, and without rounding dust."""
    flow_NN = np.where(np.eye(len(flow_NN), dtype=bool), 0.0, flow_NN)
    return np.where(flow_NN > _ROUNDING * flow_NN.max(initial=0.0), flow_NN, 0.0)


def _graph(flow_NN: ndarray) -> nx.DiGraph:
    """Every agent a node, every positive flow an edge."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(flow_NN)))
    source_E, target_E = np.nonzero(flow_NN)
    weight_E = flow_NN[source_E, target_E]
    graph.add_weighted_edges_from(
        zip(source_E.tolist(), target_E.tolist(), weight_E.tolist(), strict=True)
    )
    return graph
