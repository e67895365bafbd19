"""The application: its verbs, in the order in which the help lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from agent_economy.cli.bench import bench
from agent_economy.cli.dashboard import dashboard
from agent_economy.cli.listings import models, scenarios
from agent_economy.cli.studies import report, run
from agent_economy.cli.trained import compact, evaluate
from agent_economy.cli.training import finetune, train

VERBS: dict[str, Callable[..., None]] = {
    "models": models,
    "scenarios": scenarios,
    "run": run,
    "report": report,
    "bench": bench,
    "finetune": finetune,
    "train": train,
    "eval": evaluate,
    "compact": compact,
    "dashboard": dashboard,
}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Run a pretrained transformer as an internal economy.

    Example: agent-economy run scarcity -o runs/first
    """


for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
