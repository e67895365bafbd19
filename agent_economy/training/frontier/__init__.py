"""A frontier: methods x budgets x seeds on one task, trained as one sweep, judged cell by cell.

``settings.py`` says what a frontier depends on, ``jobs.py`` which trainings that makes and
``sweep.py`` runs them. ``cells.py`` reads them back; ``statistics.py`` judges their scores,
``attention.py`` how their attention differs from the dense model's; ``tables.py`` writes what
comes of it beside them, and ``timing.py`` reads a clock.
"""
