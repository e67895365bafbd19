"""What each figure takes from a run, and that its CSV is enough to draw it."""

import io
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from agent_economy.runs.reader import Run
from analysis.figures.base import FIGURES, Figure, Missing, in_order
from analysis.inequality import gini
from analysis.style import RC, line_styles, printable

NAMES = [
    *("utility", "rivals", "policies", "prices", "allocations", "attention", "lorenz", "wallets"),
    *("efficiency", "overhead"),
]


def data_of(name: str, run_dir: Path) -> pd.DataFrame:
    return FIGURES.get(name)().data(Run(run_dir))


def pixels(figure: Figure, data: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.draw(data).savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_figures_are_found_and_say_what_they_are() -> None:
    assert [figure.name for figure in in_order("scarcity")] == NAMES
    for kind in FIGURES.members().values():
        figure = kind()
        assert figure.title
        assert figure.question.endswith(".")
        assert figure.needs


@pytest.mark.parametrize("name", NAMES)
def test_the_csv_alone_draws_the_same_figure(name: str, run_dir: Path) -> None:
    figure = FIGURES.get(name)()
    data = figure.data(Run(run_dir))
    again = pd.read_csv(io.StringIO(data.to_csv(index=False)), keep_default_na=True)
    assert pixels(figure, data) == pixels(figure, again)


def test_utility_holds_lead_policies_and_one_random_reference(run_dir: Path, tables: dict) -> None:
    data = data_of("utility", run_dir)
    reference = data[data["role"] == "reference"]
    assert set(reference["mechanism"]) == {"uniform_price"}
    assert set(data.loc[data["role"] == "mechanism", "policy"]) == {"taylor", "constant", "best"}
    masks = data[data["mechanism"] == "static_mask"]  # rivals in every scope
    assert set(masks["scope"]) == {"sequence", "token"} and set(masks["policy"]) == {"best"}
    line = data[(data["mechanism"] == "posted_price") & (data["scope"] == "token")]
    line = line[line["budget_fraction"] == 0.3].iloc[0]
    rows = tables["metrics"].query(
        "mechanism == 'posted_price' and policy == 'taylor' and scope == 'token'"
        " and budget_fraction == 0.3"
    )
    means = rows.groupby("metric")["value"].mean()
    assert line["utility"] == pytest.approx(means["utility"], rel=1e-12)
    assert line["flops_fraction"] == pytest.approx(means["flops_fraction"], rel=1e-12)
    assert line["low"] < line["utility"] < line["high"]


def test_heat_maps_show_one_token_scope_cell_at_a_scarce_budget(
    synthetic: SimpleNamespace, run_dir: Path
) -> None:
    for name, rows in (("prices", synthetic.layers), ("allocations", synthetic.agents)):
        data = data_of(name, run_dir)
        assert len(data) == rows * len(synthetic.tokens)
        (cell,) = data[synthetic.cell].drop_duplicates().to_numpy().tolist()
        assert cell == ["uniform_price", "taylor", "token", 0.4, 0]
        assert list(data["token_text"][: len(synthetic.tokens)]) == synthetic.tokens


def test_attention_shows_the_mean_and_the_layer_that_changed_most(
    run_dir: Path, tables: dict
) -> None:
    data = data_of("attention", run_dir)
    assert list(data["view"].unique()) == ["mean over layers", "layer 5"]
    mean = data[data["view"] == "mean over layers"]
    # Rows of attention sum to one, and so do those of a mean over layers.
    assert mean.groupby("query")["attention_dense"].sum().to_numpy() == pytest.approx(1.0)
    rows = tables["attention"].query(
        "setting == 'scarce' and query == 3 and key == 4 and scope == 'sequence'"
        " and budget_fraction == 0.4 and policy == 'taylor'"
    )
    cell = mean.query("query == 3 and key == 4")["attention_scarce"].item()
    assert cell == pytest.approx(rows["attention"].mean())


def test_lorenz_ends_are_nothing_and_all_and_ginis_match(
    synthetic: SimpleNamespace, run_dir: Path, tables: dict
) -> None:
    data = data_of("lorenz", run_dir)
    for _, curve in data.groupby(["holding", "series"]):
        assert curve[["population", "held"]].iloc[0].tolist() == [0, 0]
        assert curve[["population", "held"]].iloc[-1].tolist() == [1, pytest.approx(1)]
    last = tables["agents"].query(
        "mechanism == 'posted_price' and policy == 'taylor' and scope == 'sequence'"
        f" and budget_fraction == 0.4 and seed == 0 and step == {synthetic.steps - 1}"
    )
    drawn = data.query("holding == 'wealth' and series == 'posted_price'")["gini"].iloc[0]
    assert drawn == pytest.approx(gini(last["wallet_credits"]))


def test_wallets_name_the_richest_and_the_poorest(
    synthetic: SimpleNamespace, run_dir: Path, tables: dict
) -> None:
    data = data_of("wallets", run_dir).query("mechanism == 'posted_price'")
    last = tables["agents"].query(
        "mechanism == 'posted_price' and policy == 'taylor' and scope == 'sequence'"
        f" and budget_fraction == 0.4 and seed == 0 and step == {synthetic.steps - 1}"
    )
    richest = last.loc[last["wallet_credits"].idxmax()]
    place = richest["agent"] - (synthetic.heads if richest["kind"] == "block" else 0)
    name = f"richest: L{richest['layer']} {richest['kind']} {place}"
    drawn = data[data["series"] == name]
    assert len(drawn) == synthetic.steps
    assert drawn["wallet_credits"].iloc[-1] == richest["wallet_credits"]
    median = data[data["series"] == "q50"]["wallet_credits"].iloc[-1]
    assert median == pytest.approx(np.median(last["wallet_credits"]))


def test_overhead_is_a_share_of_the_forward(run_dir: Path, tables: dict) -> None:
    data = data_of("overhead", run_dir).set_index(["mechanism", "phase"])
    rows = tables["timings"].query("mechanism == 'posted_price' and policy == 'taylor'")
    median = rows.groupby("phase")["milliseconds"].median()
    share = data.loc[("posted_price", "clearing"), "share_of_forward"]
    assert share == pytest.approx(median["clearing"] / median["forward"])


def test_a_table_that_says_too_little_says_why(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    metrics = tables["metrics"].query("metric == 'flops_fraction'")
    run = synthetic.make_run(
        tmp_path / "run", {"metrics": metrics, "agents": tables["agents"].iloc[:0]}
    )
    for name in ("utility", "rivals", "policies", "efficiency", "wallets", "lorenz"):
        with pytest.raises(Missing, match="the run"):
            data_of(name, run)


def test_a_mechanism_keeps_its_colour_whatever_stands_beside_it() -> None:
    alone = line_styles(["posted_price"])["posted_price"]
    together = line_styles(["mine", "posted_price", "uniform", "yours"])
    assert together["posted_price"] == alone
    assert len({style["color"] for style in together.values()}) == 4


@pytest.mark.parametrize(
    ("token", "label"),
    [("Ġthe", "␣the"), ("▁the", "␣the"), ("\n", "↵"), ("\x07", "·"), ("", "∅"), ("$", "$")],
)
def test_tokens_become_labels(token: str, label: str) -> None:
    assert printable(token) == label
    assert len(printable(token * 40)) <= 14
