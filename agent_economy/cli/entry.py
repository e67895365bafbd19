"""The way in: from the words of a command line to an exit code, every error one line."""

from __future__ import annotations

import sys
from typing import Any

import typer

from agent_economy.cli.app import app
from agent_economy.errors import EconomyError

# Typer may carry its own copy of click: take the base of usage errors from what typer shows.
_UsageError: Any = typer.BadParameter.__base__


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 for bad input, 130 for Ctrl-C, 1 for a bug.

    Args:
        arguments: the words after ``agent-economy``; None takes them from the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # at any place on the line
    try:
        code = app(words or ["--help"], prog_name="agent-economy", standalone_mode=False)
    except Exception as error:
        if debug and not isinstance(error, _UsageError):
            raise
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Say in one line on stderr what went wrong; returns the exit code."""
    code = 2
    if isinstance(error, EconomyError):
        line, code = str(error), getattr(error, "exit_code", 2)
    elif isinstance(error, _UsageError):
        line = f"{error.format_message()} Try --help."
    elif isinstance(error, typer.Abort):
        line, code = "interrupted", 130
    else:
        line = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        code = 1
    if line := " ".join(line.split()):
        typer.echo(f"agent-economy: {line}", err=True)
    return int(code)
