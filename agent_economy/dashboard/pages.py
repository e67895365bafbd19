"""The two pages: Mesa's SolaraViz for step, play, pause, reset and parameters; panels below."""

from __future__ import annotations

from typing import Any

import solara
import solara.lab
from mesa.visualization import SolaraViz
from mesa.visualization.utils import force_update

from agent_economy.dashboard.live import LiveEconomy, Terms
from agent_economy.dashboard.panels import (
    AgentsPanel,
    ComparisonPanel,
    Numbers,
    PricesPanel,
    SentencePanel,
    Stacked,
    WalletsPanel,
)
from agent_economy.dashboard.recording import Replay
from agent_economy.dashboard.stage import Stage
from agent_economy.dashboard.workshop import Workshop
from agent_economy.errors import EconomyError


class PagedEconomy(LiveEconomy):
    """A live economy whose starting values may be a page's own reactive ones.

    SolaraViz makes the model again on Reset, from parameters as the page shows them: one that
    nobody has touched is still the reactive value it was given.
    """

    def __init__(self, workshop: Workshop, **kwargs: Any) -> None:
        given = {
            name: value.value if isinstance(value, solara.Reactive) else value
            for name, value in kwargs.items()
        }
        super().__init__(workshop, **given)


@solara.component
def LivePage(stage: Stage) -> None:
    """The live economy, once its model is loaded."""
    loading = solara.lab.use_task(stage.workshop, dependencies=[])
    if loading.error:
        solara.Error(str(loading.exception))
    elif not loading.finished or loading.value is None:
        solara.Text("The model is loaded and its agents learn what they are worth …")
        solara.ProgressLinear(value=True)
    else:
        Live(loading.value, stage.title)


@solara.component
def Live(workshop: Workshop, title: str) -> None:
    """Parameters that take effect at once, and what they do."""
    setting = workshop.setting
    start = Terms(
        setting.supply, setting.mechanism.name, setting.policy, setting.wallet.income.name
    )
    supply, mechanism = solara.use_reactive(start.supply), solara.use_reactive(start.mechanism)
    policy, income = solara.use_reactive(start.policy), solara.use_reactive(start.income)
    sentence = solara.use_reactive(setting.sentence)
    problem = solara.use_reactive("")
    fixed = {"workshop": workshop, "sentence": sentence}
    model = solara.use_memo(lambda: solara.reactive(PagedEconomy(**fixed)), [workshop])
    chosen = Terms(supply.value, mechanism.value, policy.value, income.value)

    def attempt(change: Any) -> None:
        try:
            change()
            problem.set("")
        except EconomyError as error:
            problem.set(str(error))
        force_update()

    def apply() -> None:
        if chosen != model.value.terms:
            attempt(lambda: model.value.change(**chosen._asdict()))

    def read() -> None:
        if sentence.value != model.value.sentence:
            attempt(lambda: model.value.read(sentence.value))

    solara.use_effect(apply, [chosen])
    solara.use_effect(read, [sentence.value])
    parameters = {
        **fixed,
        "supply": {
            "type": "SliderFloat",
            "label": "Supply, of dense FLOPs",
            "value": supply,
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
        },
        "mechanism": _select("Mechanism", mechanism, list(workshop.mechanisms)),
        "policy": _select("Policy", policy, workshop.policies),
        "income": _select("Income rule", income, workshop.incomes),
    }
    # Mesa's own way to place panels draws boxes of one height; a sentence needs its own.
    SolaraViz(model, components=[], model_params=parameters, name=title, play_interval=50)
    if problem.value:
        solara.Error(problem.value)
    SentencePanel(model, sentence)
    Stacked(model, [PricesPanel, WalletsPanel])
    Stacked(model, [AgentsPanel, ComparisonPanel])


@solara.component
def RecordedPage(stage: Stage) -> None:
    """A finished run, step by step; Play goes through it."""
    recording = stage.recording
    assert recording is not None
    cell = solara.use_reactive(next(iter(recording.cells)))
    model = solara.use_memo(lambda: solara.reactive(Replay(recording, cell.value)), [cell.value])
    SolaraViz(
        model,
        components=[],
        model_params={"recording": recording, "cell": cell.value},
        name=f"{stage.title}, recorded",
        play_interval=400,
    ).key(f"cell {cell.value}")
    with solara.Card(margin=0):
        solara.Select("Cell", values=list(recording.cells), value=cell)
        Numbers(model)
    Stacked(model, [PricesPanel, WalletsPanel])
    AgentsPanel(model)
    if model.value.reading is not None:
        SentencePanel(model, None)


def _select(label: str, value: Any, values: list[str]) -> dict[str, Any]:
    return {"type": "Select", "label": label, "value": value, "values": values}
