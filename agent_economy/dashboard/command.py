"""``agent-economy dashboard``: check what is asked for, then serve it on this machine alone."""

from __future__ import annotations

import os
import socket
import threading
import warnings
import webbrowser
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from agent_economy.errors import EconomyError

HOST = "127.0.0.1"
APP = "agent_economy.dashboard.app"
_NEEDED = ("solara", "altair", "uvicorn", "starlette")


def dashboard(
    target: str | None,
    config: Path | None,
    overrides: list[str],
    *,
    port: int,
    browse: bool,
    say: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        target: a run folder or a scenario's name; None for MiniLM with defaults.
        config: another TOML than the scenario's own.
        overrides: ``key=value`` of the live economy's setting.
        port: of this machine; 0 takes a free one.
        browse: open the page in a browser.
        say: is told the address.

    Raises:
        EconomyError: solara is not installed, the port is taken, or there is nothing to show.
    """
    from agent_economy.dashboard.stage import ORDER, order, ordered_stage

    asked = order(target, config, overrides)
    stage = ordered_stage(asked)
    check_installed()
    bound = bind(port)
    try:
        if stage.recording is None:
            stage.workshop()  # what cannot be shown is said here, not on an empty page
        os.environ[ORDER] = asked
        with warnings.catch_warnings():
            # Solara lectures on hooks in Mesa's own page.
            warnings.filterwarnings("ignore", module="solara")
            import_module(APP)  # slow the first time: before anybody is told to come
        address = f"http://localhost:{bound.getsockname()[1]}"
        say(f"{stage.title} at {address}  (Ctrl-C ends it)")
        if browse:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        serve(bound)
    finally:
        bound.close()


def check_installed() -> None:
    """Refuse to start without the packages of the extra.

    Raises:
        EconomyError: with the command that installs them.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EconomyError(
            f"the live page needs {', '.join(missing)}; "
            "run `pip install 'agent-economy[dashboard]'`"
        )


def bind(port: int) -> socket.socket:
    """A port of this machine; no other machine can reach it.

    Raises:
        EconomyError: another process has it, or it is none.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port that was just given back is free; one that somebody listens on is still refused.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
        bound.listen(128)
    except (OSError, OverflowError) as error:
        bound.close()
        raise EconomyError(
            f"port {port} is taken or not allowed; choose another with --port, or --port 0"
        ) from error
    return bound


def serve(bound: socket.socket) -> None:
    """Answer on a bound socket until Ctrl-C; nothing is asked of any other machine."""
    os.environ["SOLARA_APP"] = APP
    os.environ["SOLARA_TELEMETRY_MIXPANEL_ENABLE"] = "false"
    from solara.server import settings

    settings.telemetry.mixpanel_enable = False
    settings.main.mode = "production"
    settings.theme.title = "Agent economy"
    settings.theme.show_banner = False
    import uvicorn
    from solara.server import starlette

    config = uvicorn.Config(
        starlette.app,
        log_level="error",
        loop="asyncio",
        access_log=False,
        # A browser on a busy machine answers late; it is still there, and closing is still seen.
        ws_ping_interval=None,
        ws_ping_timeout=None,
    )
    uvicorn.Server(config).run(sockets=[bound])
