"""Members of a concept, found by name: one new file is one new member."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_economy.errors import EconomyError, unknown

if TYPE_CHECKING:
    from agent_economy.config import Named

T = TypeVar("T")


class Registry(Generic[T]):
    """The concrete subclasses of ``base`` in a package, keyed by their ``name`` attribute.

    Modules of the package are imported when the first name is asked for. Another distribution
    adds members through the entry-point group that bears the package's name, for example
    ``agent_economy.mechanisms``.
    """

    def __init__(self, noun: str, package: str, base: type[T]) -> None:
        self.noun, self.package, self.base = noun, package, base

    @cache  # noqa: B019 - registries live as long as the process
    def members(self) -> dict[str, type[T]]:
        """Every member by name."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.package):
            point.load()
        found: dict[str, type[T]] = {}
        waiting = [self.base]
        while waiting:
            for member in waiting.pop().__subclasses__():
                waiting.append(member)
                if "name" in vars(member):
                    found[member.name] = member  # type: ignore[attr-defined]
        return dict(sorted(found.items()))

    def get(self, name: str) -> type[T]:
        """The member called ``name``.

        Raises:
            EconomyError: no member has that name; the nearest one is offered.
        """
        if name not in self.members():
            raise unknown(self.noun, name, self.members())
        return self.members()[name]


def build(registry: Registry[T], named: Named, **fixed: Any) -> T:
    """A registered member from its config.

    Args:
        registry: where to find it.
        named: its name and options.
        fixed: arguments that no option may set.

    Raises:
        EconomyError: unknown name, or an option that its constructor does not take.
    """
    member = registry.get(named.name)
    try:
        return member(**fixed, **named.options)
    except TypeError as error:
        raise EconomyError(
            f"{registry.noun} {named.name!r} does not take these options: {error}"
        ) from error
