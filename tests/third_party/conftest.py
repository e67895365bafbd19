"""The outside packages are tested as ones that are installed, by ``test_outside_*``."""

collect_ignore = ["electra_economy", "first_come_economy", "loudness_economy"]
