"""All tests but the long ones, from fast to slow, on one real broker: what `make test` runs.

Within a phase tests run side by side: most of them wait for something. What judges the gap by the emulator's clock comes
last, when nothing else keeps its process waiting.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mailstream.domain.errors import NoKafka
from tests.support import broker

GAP = "tests/acceptance/test_the_gap.py"
PHASES = (
    ("-n", "4", "tests/unit", "tests/contract", "tests/integration"),
    ("-n", "4", "tests/acceptance", f"--ignore={GAP}"),
    ("-n", "2", GAP),
)


def main() -> int:
    """Run the phases; the first that fails ends it. Returns its exit code."""
    try:
        with tempfile.TemporaryDirectory() as home, broker.shared_kafka(Path(home) / "kafka") as kafka:
            print(f"kafka: {kafka.title} at {kafka.bootstrap}", flush=True)
            env = os.environ | {broker.BOOTSTRAP_VARIABLE: kafka.bootstrap}
            for phase in PHASES:
                if code := subprocess.run(
                    [sys.executable, "-m", "pytest", "-q", "--maxschedchunk", "1", *phase], env=env
                ).returncode:
                    return code
    except NoKafka as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
