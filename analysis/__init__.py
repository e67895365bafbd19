"""Figures and reports, made from a run folder alone.

Nothing here knows a model or imports torch: `agent_economy.runs.reader.Run` is the only door.

- ``figures/``: one file per figure; a new file is a new figure in every report.
- ``cells.py``: which cells of a study a figure shows.
- ``intervals.py``, ``inequality.py``: the statistics.
- ``verdict.py``: where the economy loses.
- ``frontier.py``: families of trained models against their rivals; judged already, only shown here.
- ``report.py``: the page that holds it all.
"""
