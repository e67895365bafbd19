"""How families of models compare: paired bootstrap, verdicts, hypervolume.

Two models meet the same examples, and a method is trained under several seeds. Both are chance:
other examples and other seeds would have given other scores. ``bootstrap.py`` resamples both, with
the same draws for every model, so that differences are taken pair by pair; ``verdict.py`` says what
a difference amounts to; ``hypervolume.py`` sums up a whole frontier.
"""

from agent_economy.metrics.frontier.bootstrap import (
    Draws,
    Estimate,
    Paired,
    Scored,
    mean_difference,
    mean_over_seeds,
    paired_scores,
)
from agent_economy.metrics.frontier.hypervolume import hypervolume
from agent_economy.metrics.frontier.verdict import (
    LOST,
    MARGIN_POINTS,
    NOT_RUN,
    NOT_WORSE,
    VERDICTS,
    WIN,
    verdict,
)

__all__ = [
    "LOST",
    "MARGIN_POINTS",
    "NOT_RUN",
    "NOT_WORSE",
    "VERDICTS",
    "WIN",
    "Draws",
    "Estimate",
    "Paired",
    "Scored",
    "hypervolume",
    "mean_difference",
    "mean_over_seeds",
    "paired_scores",
    "verdict",
]
