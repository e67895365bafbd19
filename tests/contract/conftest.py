"""A mechanism's other scopes are tried on fewer cases, except under ``-m slow``."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Classes say how many cases are enough for them (``cases``).

    Hypothesis ties settings to the test function, which all classes inherit from the contract, so
    they are changed around the call.
    """
    cases = getattr(getattr(item, "cls", None), "cases", None)
    test = getattr(item, "function", None)
    slow = item.config.getoption("markexpr", "") == "slow"
    if cases is None or slow or not is_hypothesis_test(test):
        return (yield)
    ours = test._hypothesis_internal_use_settings
    few = settings(ours, max_examples=min(cases, ours.max_examples))
    test._hypothesis_internal_use_settings = few
    try:
        return (yield)
    finally:
        test._hypothesis_internal_use_settings = ours
