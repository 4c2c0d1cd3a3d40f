"""All scenarios, in the order of docs/reliability.md."""

from __future__ import annotations

from tests.sim.lies import LIES
from tests.sim.moves import MOVES
from tests.sim.paths import PATHS
from tests.sim.trial import Scenario

SCENARIOS: tuple[Scenario, ...] = (*PATHS, *MOVES, *LIES)
