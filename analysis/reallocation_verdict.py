"""Does attention move toward valuable tokens? Yes, no or cannot tell, computed."""

from __future__ import annotations

import pandas as pd

from analysis.reallocation import MARKET, RIVALS, VALUES
from analysis.style import number, percent, words

_AGAINST = {
    MARKET: "against the dense model",
    "random bids": "against random bids",
    "random mask": "against a random mask of equal spend",
    "lots": "against lots without a market",
}


def verdicts(found: pd.DataFrame, market: tuple[str, str, str]) -> list[str]:
    """One sentence per definition of value: the answer against dense and against each rival.

    Args:
        found: ``estimates`` of the share over all layers, by value.
        market: mechanism, policy and scope.
    """
    mechanism, policy, scope = market
    rows = found[
        (found["mechanism"] == mechanism) & (found["policy"] == policy) & (found["scope"] == scope)
    ]
    name = f"{words(mechanism)}, {words(policy)} bids, {scope} scope"
    sentences = [f"Does attention move toward valuable tokens? ({name}; points of share)"]
    for value in (value for value in VALUES if value in set(rows["value"])):
        answers = []
        for arm in (MARKET, *RIVALS):
            quantity = "change" if arm == MARKET else "gain"
            part = rows[
                (rows["value"] == value) & (rows["arm"] == arm) & (rows["quantity"] == quantity)
            ]
            if len(part):
                ordered = part.sort_values("budget_fraction", ascending=False)
                answers.append(f"{_AGAINST[arm]}: {answer(ordered)}")
        name = VALUES[value][0].upper() + VALUES[value][1:]
        sentences.append(f"{name}, {'; '.join(answers)}.")
    return sentences


def in_brief(found: pd.DataFrame, market: tuple[str, str, str]) -> str:
    """One sentence on a further market, against the dense model alone."""
    mechanism, policy, scope = market
    rows = found[
        (found["mechanism"] == mechanism) & (found["policy"] == policy) & (found["scope"] == scope)
    ]
    changes = rows[(rows["arm"] == MARKET) & (rows["quantity"] == "change")]
    said = [
        f"{VALUES[value]}: {answer(part.sort_values('budget_fraction', ascending=False))}"
        for value in VALUES
        if len(part := changes[changes["value"] == value])
    ]
    name = f"{words(mechanism)}, {words(policy)} bids, {scope} scope"
    return f"Likewise {name}, against the dense model: {'; '.join(said)}."


def kept(utility: pd.DataFrame) -> list[str]:
    """One sentence on the utility of a market beside the dense model's, at every budget.

    Args:
        utility: ``utilities`` of one market.
    """
    if utility.empty:
        return []
    said = []
    for budget, rows in utility.groupby("budget_fraction", sort=True):
        at = rows.set_index("arm")
        change = f", paired {signed(at.loc['kept'])}" if "kept" in at.index else ""
        rivals = ", ".join(
            f"{arm} {number(at.loc[arm, 'mean'])}" for arm in RIVALS if arm in at.index
        )
        level = f"{number(at.loc[MARKET, 'mean'])} (dense {number(at.loc['dense', 'mean'])}{change}"
        said.append(f"{percent(budget)}: {level}; {rivals})" if rivals else f"{level})")
    return [f"Utility, {utility['unit'].iloc[0]}, {'; '.join(reversed(said))}."]


def answer(rows: pd.DataFrame) -> str:
    """Yes, no or cannot tell over some budgets, with the numbers.

    "Yes" where the 95 % interval lies above zero, "no" where it lies below (attention moves away),
    "cannot tell" where it holds zero. One word where all budgets agree.
    """
    said = {row.budget_fraction: _word(row.low, row.high) for row in rows.itertuples()}
    words_said = list(dict.fromkeys(said.values()))
    if len(words_said) == 1:
        head = words_said[0]
    else:
        head = ", ".join(
            f"{word} at {', '.join(percent(b) for b, w in said.items() if w == word)}"
            for word in words_said
        )
    numbers = ", ".join(
        f"{percent(row['budget_fraction'])}: {in_points(row)}" for _, row in rows.iterrows()
    )
    return f"{head} ({numbers})"


def in_points(row: pd.Series) -> str:
    """A difference of shares with its interval, in percentage points."""
    return "{:+.2f} [{:+.2f} to {:+.2f}]".format(*(100 * row[["mean", "low", "high"]]))


def _word(low: float, high: float) -> str:
    if low > 0:
        return "yes"
    return "no" if high < 0 else "cannot tell"


def signed(row: pd.Series) -> str:
    """A mean with its interval and its sign."""
    mean, low, high = (f"{'+' if v > 0 else ''}{number(v)}" for v in row[["mean", "low", "high"]])
    return f"{mean} [{low} to {high}]"
