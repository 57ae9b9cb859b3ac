"""How exact the gap is: the gate alone in this process, with nothing behind it.

`python -m tests.benchmarks.gap`: early must be 0; late is what the machine adds.
"""

import asyncio
import json
import sys
from itertools import pairwise
from typing import Any

from streams.core.pace import Pace
from streams.sending.gate import Gate, read_clocks
from tests.benchmarks.machine import machine

CALLS = {2.0: 15, 0.1: 300}


async def measure(gap: float, calls: int) -> dict[str, Any]:
    """Starts of ``calls`` calls that are always waiting."""
    pace = Pace(gap=gap, burst=1, partitions=4)
    pace.owns(range(4), read_clocks())
    gate, starts = Gate(pace, lambda: None), []
    for _ in range(calls + 1):
        passed = await gate.passed(lambda: False)
        assert passed is not None
        starts.append(passed.monotonic)
    late = sorted((after - before - gap) * 1000 for before, after in pairwise(starts))
    return {
        "gap": gap,
        "calls": calls,
        "early": sum(milliseconds < 0 for milliseconds in late),
        "late_ms_p50": round(late[len(late) // 2], 3),
        "late_ms_p99": round(late[len(late) * 99 // 100], 3),
        "late_ms_max": round(late[-1], 3),
        "rate_used": round(calls * gap / (starts[-1] - starts[0]), 5),
    }


def main() -> None:
    """Run and print."""
    rows = [asyncio.run(measure(gap, calls)) for gap, calls in CALLS.items()]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    print(json.dumps({"machine": machine("none"), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
