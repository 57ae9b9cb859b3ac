"""All tests but the long ones, from fast to slow, on one real broker: what `make test` runs.

Tests that mostly wait run side by side; those that judge times run alone.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mailstream.errors import NoKafka
from tests.support import broker

SIDE_BY_SIDE = ("-n", "3", "--dist", "worksteal")
PHASES = (
    ("tests/unit",),
    (*SIDE_BY_SIDE, "tests/contract", "tests/integration"),
    ("tests/acceptance",),
)


def main() -> int:
    """Run the phases; the first that fails ends it. Returns its exit code."""
    try:
        with tempfile.TemporaryDirectory() as home, broker.shared_kafka(Path(home) / "kafka") as kafka:
            print(f"kafka: {kafka.title} at {kafka.bootstrap}", flush=True)
            env = os.environ | {broker.BOOTSTRAP_VARIABLE: kafka.bootstrap}
            for phase in PHASES:
                if code := subprocess.run([sys.executable, "-m", "pytest", "-q", *phase], env=env).returncode:
                    return code
    except NoKafka as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
