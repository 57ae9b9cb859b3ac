"""All benchmarks, one after the other, on one broker: tables on stderr, one JSON document on stdout."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import broker

PARTS = ("gap", "worker", "api", "trigger_rules")


def main() -> int:
    """Run each part in a process of its own."""
    figures = {}
    with tempfile.TemporaryDirectory() as home, broker.shared_kafka(Path(home) / "kafka") as kafka:
        env = os.environ | {broker.BOOTSTRAP_VARIABLE: kafka.bootstrap}
        for part in PARTS:
            print(f"\n{part} ({kafka.title})", file=sys.stderr, flush=True)
            ran = subprocess.run([sys.executable, "-m", f"tests.benchmarks.{part}"], env=env, stdout=subprocess.PIPE)
            if ran.returncode:
                return ran.returncode
            figures[part] = _read(ran.stdout)
    print(json.dumps(figures, indent=1))
    return 0


def _read(text: bytes) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.decode()


if __name__ == "__main__":
    sys.exit(main())
