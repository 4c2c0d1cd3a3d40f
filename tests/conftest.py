"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a noisy machine must not fail a property. Derandomized: a run can be repeated.
settings.register_profile("rawproto", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("rawproto")
