"""The outside package is tested as one that is installed, by ``test_outside_package``."""

collect_ignore = ["electra_economy"]
