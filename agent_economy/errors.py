"""The one error that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EconomyError(Exception):
    """Bad input: one line that says what is wrong and what to do (exit code 2)."""


def unknown(noun: str, name: str, options: Iterable[str]) -> EconomyError:
    """The error for a name that is not known, with the nearest one that is.

    Args:
        noun: what was looked for, as in ``"mechanism"``.
        name: what the user wrote.
        options: the names that would have worked.
    """
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return EconomyError(f"unknown {noun} {name!r}; {hint}")
