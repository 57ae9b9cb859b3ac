"""Every benchmark, one after the other, on one real broker: what ``make bench`` runs. Names choose some of them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mailstream.domain.errors import NoKafka
from tests.support import broker

#: Modules beside this one that measure; the others help them.
PROGRAMS = ("gap", "worker", "idle", "api", "streams", "view", "trigger_rules")


def main(chosen: list[str]) -> int:
    """Run them. Returns 1 when one of them failed."""
    code = 0
    try:
        with tempfile.TemporaryDirectory() as home, broker.shared_kafka(Path(home) / "kafka") as kafka:
            env = os.environ | {broker.BOOTSTRAP_VARIABLE: kafka.bootstrap}
            for name in chosen or PROGRAMS:
                print(f"\n# {name}, {kafka.title}", flush=True)
                code |= subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], env=env).returncode != 0
    except NoKafka as error:
        print(error, file=sys.stderr)
        return 1
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
