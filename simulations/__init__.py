"""Studies: one folder per claim, found by name through ``agent_economy.scenarios``.

`laboratory` is what they share. ``agent-economy run NAME`` runs one.
"""
