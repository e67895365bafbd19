"""The page that the server imports by name; what it shows is in the environment.

``solara run agent_economy.dashboard.app`` works, too, and shows MiniLM with defaults.
"""

from __future__ import annotations

import os

import solara

from agent_economy.dashboard.pages import LivePage, RecordedPage
from agent_economy.dashboard.panels import STYLE
from agent_economy.dashboard.stage import ORDER, order, ordered_stage

_RECORDED, _LIVE = "recorded run", "live economy"


@solara.component
def Page() -> None:
    """The recorded run, the live economy, or a choice of the two."""
    stage = ordered_stage(os.environ.get(ORDER, order(None, None, [])))
    both = stage.recording is not None and stage.setting is not None
    view = solara.use_reactive(_LIVE if stage.recording is None else _RECORDED)
    solara.Title(f"{stage.title} · agent economy")
    solara.Style(STYLE)
    with solara.Column(gap="8px"):
        if both:
            solara.ToggleButtonsSingle(value=view, values=[_RECORDED, _LIVE], dense=True)
        elif stage.why_not:
            solara.Text(stage.why_not, style={"opacity": "0.7", "font-size": "13px"})
        if view.value == _RECORDED:
            RecordedPage(stage)
        else:
            LivePage(stage)
