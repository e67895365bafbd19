"""``python -m agent_economy``: the command line."""

from agent_economy.cli import main

main()
