"""What an API and a worker with nothing to do weigh together: no templates, no triggers, no webhook keys.

`python -m tests.benchmarks.idle`: a table on stderr, JSON on stdout.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from mailstream.settings import Settings
from tests.benchmarks.machine import machine
from tests.support.mail_system import MailSystem
from tests.support.processes import programs_in
from tests.support.system import some_settings, topics_of

QUIET_SECONDS = 5


def main() -> None:
    """Run and print."""
    bootstrap = Settings().kafka_bootstrap
    settings = some_settings(bootstrap, partitions=8)
    with (
        tempfile.TemporaryDirectory() as folder,
        topics_of(settings),
        programs_in(Path(folder), is_forked=False) as programs,
    ):
        [worker] = MailSystem(programs, settings).add_workers(1)
        api = programs.api(settings)
        seen = {name: psutil.Process(program.ready().pid) for name, program in (("api", api), ("worker", worker))}
        time.sleep(QUIET_SECONDS)
        rss = {name: process.memory_info().rss for name, process in seen.items()}
        cpu = {name: round(sum(process.cpu_times()[:2]), 2) for name, process in seen.items()}
    figures = {
        "rss_mib": {name: round(size / 2**20, 1) for name, size in rss.items()},
        "rss_mb_together": round(sum(rss.values()) / 1e6),
        "cpu_seconds_since_the_start": cpu,
    }
    print("\n".join(f"{name:28} {value}" for name, value in figures.items()), file=sys.stderr)
    print(json.dumps({"machine": machine(bootstrap), **figures}, indent=1))


if __name__ == "__main__":
    main()
