"""Which cells stand for a study, and what its agents are called."""

import pandas as pd
import pytest

from analysis.cells import agent_names, lead_mechanism, lead_policies, scarce, showcase
from analysis.figures.base import Missing

COLUMNS = ["mechanism", "policy", "scope", "budget_fraction", "seed"]


def study(*cells: tuple) -> pd.DataFrame:
    return pd.DataFrame(cells, columns=COLUMNS)


def test_random_bids_never_lead_unless_alone() -> None:
    table = study(
        ("posted", "random", "token", 0.4, 0),
        ("posted", "random", "token", 0.5, 0),
        ("posted", "fisher", "token", 0.4, 0),
        ("topk", "random", "token", 0.4, 0),
    )
    assert lead_policies(table) == {"posted": "fisher", "topk": "random"}


def test_the_policy_that_covers_most_leads_then_the_first() -> None:
    table = study(
        ("m", "a", "token", 0.4, 0),
        ("m", "b", "token", 0.4, 0),
        ("m", "b", "token", 0.5, 0),
        ("n", "b", "token", 0.4, 0),
        ("n", "a", "token", 0.4, 0),
    )
    assert lead_policies(table) == {"m": "b", "n": "b"}


def test_the_lead_mechanism_is_a_market() -> None:
    table = study(("uniform", "a", "token", 0.4, 0), ("posted", "a", "token", 0.4, 0))
    assert lead_mechanism(table) == "posted"


def test_scarce_is_the_budget_nearest_to_two_fifths_under_the_smallest_seed() -> None:
    table = study(
        *[("m", "a", "token", budget, seed) for budget in (1, 0.35, 0.5) for seed in (3, 2)]
    )
    assert scarce(table)[["budget_fraction", "seed"]].to_numpy().tolist() == [[0.35, 2]]


def test_showcase_takes_the_wished_scope_where_there_is_one() -> None:
    table = study(("m", "a", "sequence", 0.4, 0), ("m", "a", "token", 0.4, 0))
    assert set(showcase(table, scope="token")["scope"]) == {"token"}
    assert set(showcase(table, scope="batch")["scope"]) == {"sequence"}
    with pytest.raises(Missing, match="no row"):
        showcase(table.iloc[:0])


def test_agents_are_named_by_layer_kind_and_place() -> None:
    agents = pd.DataFrame(
        {"layer": [0, 0, 1, 1], "agent": [1, 2, 0, 2], "kind": ["head", "block", "head", "block"]}
    )
    agents.loc[len(agents)] = [1, 3, "block"]
    names = ["L0 head 1", "L0 block 0", "L1 head 0", "L1 block 0", "L1 block 1"]
    assert list(agent_names(agents)) == names
