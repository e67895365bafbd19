"""Checks that hold for every test: array shapes and types, and how many cases are tried."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Only modules imported after this line are checked, so it stands before any other import of ours.
install_import_hook(
    ["agent_economy.costs", "agent_economy.mechanisms", "agent_economy.metrics"],
    "beartype.beartype",
)

settings.register_profile("default", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("quick", max_examples=15, derandomize=True, deadline=None)
settings.register_profile("slow", max_examples=1000, derandomize=True, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    slow = config.getoption("markexpr", "") == "slow"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "slow" if slow else "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """``-m slow`` tries every property on many more cases, beside what is always slow."""
    if config.getoption("markexpr", "") == "slow":
        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker(pytest.mark.slow)
