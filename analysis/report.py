"""One self-contained page from one run folder or several."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from agent_economy.errors import EconomyError
from agent_economy.runs.files import one_line_if_disk_full, write_atomic
from agent_economy.runs.reader import Run
from analysis.comparison import Comparison, compare
from analysis.figures.base import TRAINED, Figure, Missing, in_order
from analysis.frontier import FrontierPage, frontier_page
from analysis.header import facts
from analysis.readings import readings_of
from analysis.study import Study
from analysis.style import DPI, RC, number, percent, share, words
from analysis.summary import Summary, side_by_side, summarise
from analysis.verdict import Verdict, judge

REPORT = "report.html"


@dataclass(frozen=True)
class Plate:
    """A figure on the page: its image and findings, or a note that says why there is none."""

    figure: Figure
    note: str = ""
    image: str = ""
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One run on the page."""

    name: str
    scenario: str
    facts: dict[str, str]
    config: str
    manifest: str
    summary: Summary | None
    verdict: Verdict | None
    frontier: FrontierPage | None
    plates: list[Plate]


def write_report(run_dirs: Sequence[Path]) -> Path:
    """Draw every figure of some finished runs and write the page that holds them.

    Each run gets ``figures/<name>.png`` and, beside it, ``figures/<name>.csv``: the data behind
    it. The page lies in the first run's folder, embeds all images and asks no network for
    anything. The same runs give the same bytes. Several runs are compared with the first one:
    what was set differently, what both measured, figures next to each other; the numbers behind
    that go to ``figures/comparison.csv`` of the first.

    Args:
        run_dirs: the run folders, in the order of their sections.

    Returns:
        The path of ``report.html``.

    Raises:
        EconomyError: no folder was named, one holds no finished run, several have nothing in
            common, or the disk is full.
    """
    if not run_dirs:
        raise EconomyError("name at least one run folder to report on")
    runs = [Study(path) for path in run_dirs]
    comparison = compare(runs) if len(runs) > 1 else None
    names = comparison.names if comparison else [runs[0].path.resolve().name]
    page = runs[0].path / REPORT
    with one_line_if_disk_full(page.parent):
        sections = [_section(run, name) for run, name in zip(runs, names, strict=True)]
        measured = [(s.name, s.summary) for s in sections if s.summary]
        text = _template().render(
            sections=sections,
            together=side_by_side(measured) if len(measured) > 1 else None,
            comparison=comparison,
            beside=_beside(sections),
        )
        if comparison:
            _write_csv(runs[0].figures / "comparison.csv", _compared(comparison))
        write_atomic(page, text)
    return page


def draw(figure: Figure, run: Run) -> Plate:
    """Draw one figure of a run and keep image and data in its ``figures`` folder."""
    absent = [table for table in figure.needs if table not in run.tables]
    if absent:
        return Plate(figure, note=f"the run has no table {' and no table '.join(absent)}")
    try:
        data = figure.data(run)
    except Missing as reason:
        return Plate(figure, note=str(reason))
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        # A token in a script that the font lacks is drawn as a box; the CSV has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        buffer = io.BytesIO()
        figure.draw(data).savefig(buffer, format="png", dpi=DPI)
    write_atomic(run.figures / f"{figure.name}.png", buffer.getvalue())
    _write_csv(run.figures / f"{figure.name}.csv", data)
    image = base64.b64encode(buffer.getvalue()).decode()
    return Plate(figure, image=image, findings=tuple(figure.findings(data)))


def _beside(sections: list[Section]) -> list[tuple[str, str, list[tuple[str, Plate]]]]:
    """Title, name and plates of every figure that several runs have; each plate with its run."""
    plates: dict[str, list[tuple[str, Plate]]] = {}
    for section in sections:
        for plate in section.plates:
            if plate.image:
                plates.setdefault(plate.figure.name, []).append((section.name, plate))
    return [
        (found[0][1].figure.title, name, found) for name, found in plates.items() if len(found) > 1
    ]


def _compared(comparison: Comparison) -> pd.DataFrame:
    frames = [
        (other.frame if len(other.frame) else pd.json_normalize(other.overall)).assign(
            run=other.name
        )
        for other in comparison.others
    ]
    return pd.concat(frames, ignore_index=True)


def _section(run: Run, name: str) -> Section:
    summary = verdict = None
    found = None if run.scenario in TRAINED else readings_of(run)
    if found is not None:
        metrics = run.table("metrics")
        summary, verdict = summarise(metrics, found), judge(metrics, found)
        _write_csv(run.figures / "summary.csv", summary.frame)
        _write_csv(run.figures / "verdict.csv", verdict.compared)
    return Section(
        name=name,
        scenario=run.scenario,
        facts=facts(run),
        config=(run.path / "config.toml").read_text("utf-8"),
        manifest=json.dumps(run.manifest, indent=2, ensure_ascii=False),
        summary=summary,
        verdict=verdict,
        frontier=frontier_page(run),
        plates=[draw(figure, run) for figure in in_order(run.scenario)],
    )


def _write_csv(path: Path, data: pd.DataFrame) -> None:
    write_atomic(path, data.to_csv(index=False, lineterminator="\n"))


def _template() -> Template:
    """The page's template; every value in it is escaped."""
    environment = Environment(
        loader=PackageLoader("analysis", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": words, "percent": percent, "share": share, "number": number}
    return environment.get_template("report.html.j2")
