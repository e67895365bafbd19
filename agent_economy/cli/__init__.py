"""The command line: thin verbs over the library, a file for verbs that belong together.

Nothing heavy is imported at the top of any of them, so that ``--help`` answers at once.
"""

from agent_economy.cli.entry import main

__all__ = ["main"]
