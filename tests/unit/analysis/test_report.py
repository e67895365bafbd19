"""The page: self-contained, escaped, the same bytes every time, honest about what is missing."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from analysis.figures.base import FIGURES, in_order
from analysis.report import draw, write_report


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    path = write_report([run_dir])
    assert path == run_dir / "report.html"
    return path.read_text()


class Outside(HTMLParser):
    """Collects every address that a browser would fetch, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    parser = Outside()
    parser.feed(page)
    assert parser.addresses
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in parser.addresses)
    assert not parser.tags & {"script", "link", "iframe"}
    assert "url(" not in page
    assert "@import" not in page


def test_every_link_has_its_target(page: str) -> None:
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_every_figure_is_there_with_its_files(page: str, run_dir: Path) -> None:
    for figure in in_order("scarcity"):
        name = figure.name
        assert (run_dir / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(run_dir / "figures" / f"{name}.csv"))
        assert figure.title in page
        assert f"figures/{name}.csv" in page
    assert not list(run_dir.rglob(".*"))


def test_the_page_says_what_was_run_and_how_to_run_it_again(page: str) -> None:
    assert "A CPU &lt;fast &amp; small&gt;" in page
    assert "<fast" not in page
    assert "minilm" in page
    assert "agent-economy run scarcity -c config.toml" in page
    assert "2025-01-01 12:00:00+00:00, 90 s" in page


def test_the_same_run_gives_the_same_bytes(page: str, run_dir: Path) -> None:
    files = sorted((run_dir / "figures").iterdir())
    before = [file.read_bytes() for file in files]
    assert write_report([run_dir]).read_text() == page
    assert [file.read_bytes() for file in files] == before


def test_losses_are_listed(page: str) -> None:
    assert re.search(r"In \d+ of 720 comparisons", page)


def one_cell(tables: dict[str, pd.DataFrame], **changes: object) -> pd.DataFrame:
    metrics = tables["metrics"]
    chosen = metrics.query("mechanism == 'posted_price' and policy == 'taylor' and seed == 0")
    return chosen.assign(**changes)


def test_missing_tables_leave_notes(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    run = synthetic.make_run(tmp_path / "run", {"metrics": one_cell(tables)})
    page = write_report([run]).read_text()
    assert "Left out: the run has no table prices." in page
    assert "Left out: the study runs one bid policy only" in page
    assert "It cannot be said" in page
    assert not (run / "figures" / "prices.png").exists()


def test_a_run_without_any_table_still_gives_a_page(
    synthetic: SimpleNamespace, tmp_path: Path
) -> None:
    page = write_report([synthetic.make_run(tmp_path / "run", {})]).read_text()
    assert "No summary: the run measured no utility." in page


def test_an_economy_that_never_loses_says_none(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    best = one_cell(tables)
    worst = best.assign(policy="random", value=best["value"] / 2)
    run = synthetic.make_run(tmp_path / "run", {"metrics": pd.concat([best, worst])})
    assert "<p>None: in all 20 comparisons" in write_report([run]).read_text()


def test_names_are_escaped_everywhere(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    evil = "<script>alert('$x$')</script>"
    metrics = pd.concat(
        [one_cell(tables, mechanism=evil, unit=evil), one_cell(tables, policy="random")]
    )
    prices = tables["prices"].assign(token_text=evil, mechanism=evil)
    run = synthetic.make_run(
        tmp_path / "<b>run",
        {"metrics": metrics, "prices": prices},
        synthetic.config + f'# "{evil}"\n',
    )
    page = write_report([run]).read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_one_reading_of_a_divergence_is_enough(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    metrics = one_cell(tables, unit="KL, nats").query("step == 0")
    page = write_report([synthetic.make_run(tmp_path / "run", {"metrics": metrics})]).read_text()
    assert "one reading" in page


def test_runs_are_laid_side_by_side(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict
) -> None:
    metrics = one_cell(tables)
    one = synthetic.make_run(tmp_path / "one", {"metrics": metrics})
    other = synthetic.make_run(
        tmp_path / "other", {"metrics": metrics.query("budget_fraction < 0.5")}
    )
    page = write_report([one, other])
    assert page == one / "report.html"
    text = page.read_text()
    assert "Side by side" in text
    assert '<section id="run-1">' in text
    assert '<section id="run-2">' in text
    assert (other / "figures" / "utility.png").is_file()
    assert not (other / "report.html").exists()


def test_bad_folders_are_one_line_errors(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="at least one run folder"):
        write_report([])
    with pytest.raises(EconomyError, match="holds no run"):
        write_report([tmp_path])
    assert not list(tmp_path.iterdir())


def test_foreign_tokens_draw_without_a_warning(
    synthetic: SimpleNamespace, tmp_path: Path, tables: dict, recwarn: pytest.WarningsRecorder
) -> None:
    prices = tables["prices"].assign(token_text="経済 $a$ 🜚")
    run = Run(synthetic.make_run(tmp_path / "run", {"prices": prices}))
    assert draw(FIGURES.get("prices")(), run).image
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_analysis_does_not_load_torch() -> None:
    code = (
        "import sys, analysis.report; from analysis.figures.base import in_order;"
        "in_order('scarcity');"
        "assert not {'torch', 'transformers', 'mesa', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
