"""The live page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def dashboard(
    target: Annotated[
        str | None,
        typer.Argument(help="A finished run folder or a scenario; default: MiniLM as it comes."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Another TOML of the scenario.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="key=value of the live economy; repeats."),
    ] = None,
    port: Annotated[int, typer.Option(help="Of this machine; 0 takes a free one.")] = 8765,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Open the live page: watch an economy and steer it while it runs.

    Prints the page's address and serves it, on this machine alone, until Ctrl-C.

    Example: agent-economy dashboard price_shock -s supply=0.3
    """
    from agent_economy.dashboard.command import dashboard as serve

    serve(target, config, setting or [], port=port, browse=browse, say=typer.echo)
