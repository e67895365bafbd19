"""Run folders: what a study writes, how it resumes, how it is read back.

Nothing here knows a model. A scenario (``scenario.py``) says which points there are and measures
one of them; the runner (``runner.py``) walks the points; the store (``store.py``) keeps every byte
safe; the reader (``reader.py``) is all that analysis needs. A sweep (``sweep.py``) is a list of
commands, each with a folder of its own, run as child processes some at a time.
"""
