"""What installed packages add to the command line, by entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_economy.errors import EconomyError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name."""
    from importlib.metadata import entry_points  # slow to import, and no help needs it

    return {point.name: point for point in entry_points(group=group)}


def load(point: EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        EconomyError: it does not load.
    """
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise EconomyError(f"{point.name!r} ({point.value}) does not load: {error}") from error
