"""The figures of a report: one file each, found by `FIGURES` in ``base.py``."""
