"""How many markets every clause of the contract is tried on."""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("quick", max_examples=10, derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
