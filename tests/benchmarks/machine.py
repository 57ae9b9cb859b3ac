"""What stands next to every figure: interpreter, versions, broker, load."""

import os
import platform
from importlib.metadata import version
from typing import Any


def machine(bootstrap: str) -> dict[str, Any]:
    """The machine and what ran on it."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kafka": f"4.3.1 at {bootstrap}",
        **{name: version(name) for name in ("confluent-kafka", "faust-streaming", "aiohttp", "msgspec")},
    }
