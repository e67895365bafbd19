"""Make transformers know compacted models, as soon as it is there and not before.

``AutoModel.from_pretrained`` shall load a compacted model once ``agent_economy`` is imported, but
importing transformers takes seconds, and importing ``agent_economy`` must not.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_REGISTRY = "transformers.models.auto.configuration_auto"


def announce() -> None:
    """Register the config of compacted models with ``AutoConfig``, now or when it is imported."""
    loaded = sys.modules.get(_REGISTRY)
    if hasattr(loaded, "AutoConfig"):
        _register(loaded)
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _register(module: Any) -> None:
    from agent_economy.compaction.config import MODEL_TYPE, CompactedConfig

    module.AutoConfig.register(MODEL_TYPE, CompactedConfig, exist_ok=True)


class _Watch(MetaPathFinder):
    """Notices the import of transformers' registry, and is gone with it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    """Loads as the loader it stands for, then registers."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _register(module)
