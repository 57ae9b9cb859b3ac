"""How hard the properties are tried: quickly and alike on each run, or at length with ``make test-faults``."""

import os

from hypothesis import settings

settings.register_profile(
    "ci", max_examples=100, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
settings.register_profile("long", max_examples=3000, deadline=None, print_blob=True, database=None)
settings.load_profile("long" if os.environ.get("DURATION") else "ci")
