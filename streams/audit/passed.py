"""How far the workers have come in a partition (pure): what stands behind that only waits for one."""

from typing import NamedTuple


class Passed(NamedTuple):
    """The first offset of each topic whose consequence a worker still owes. What stands before it has had it."""

    requests: int = 0
    events: int = 0
    attempts: int = 0  #: behind it a status may be older than the log: its next owner folds from here
    statuses: int = 0  #: behind it a former owner's status may be on top: its next owner writes it over
