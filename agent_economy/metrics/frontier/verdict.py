"""What a paired difference of scores amounts to."""

from __future__ import annotations

from agent_economy.metrics.frontier.bootstrap import Estimate

WIN, NOT_WORSE, LOST, NOT_RUN = "win", "not worse", "lost", "not run"
VERDICTS = (WIN, NOT_WORSE, LOST, NOT_RUN)

MARGIN_POINTS = {"accuracy": 1.0, "pearson_spearman": 1.0, "matthews": 3.0, "perplexity": 1.0}
"""How far below a rival still counts as not worse, by metric.

Matthews correlation (CoLA) is wider: its spread over seeds alone is about two points. Of
perplexity, where lower is better, the score is minus the logarithm, so a point is one percent.
"""


def verdict(difference: Estimate, margin: float) -> str:
    """A word for economy minus rival.

    Args:
        difference: in points, 100 times the score.
        margin: in points.

    Returns:
        `WIN` if the whole interval lies above 0, `NOT_WORSE` if it lies above ``-margin``, else
        `LOST`. What has no interval is lost: it is the economy that has something to show.
    """
    if difference.low > 0:
        return WIN
    return NOT_WORSE if difference.low > -margin else LOST
