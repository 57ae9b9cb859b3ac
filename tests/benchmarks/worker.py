"""What a mail costs the worker, and what it weighs: 20,000 mails of 2 KB waiting, gap off, real Kafka.

`python -m tests.benchmarks.worker`: a table on stderr, JSON on stdout. The worker is a process of its own, the rate is
told for each CPU-second that it spent between its first and its last mail, start-up not counted.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from mailstream.settings import Settings
from tests.benchmarks.machine import machine
from tests.support.mail_system import MailSystem
from tests.support.processes import Program, programs_in
from tests.support.system import some_settings, topics_of

MAILS, BODY_BYTES = 20_000, 2000
IN_FLIGHT = (64, 256)  #: the default, and what suits no gap: more mails share each batch
LIMIT_SECONDS = 300
LOOK_SECONDS = 1.0  #: a look is work for the worker too; a real scrape comes every 15 s or more


def main() -> None:
    """Run and print."""
    bootstrap = Settings().kafka_bootstrap
    rows = []
    for in_flight in IN_FLIGHT:
        with tempfile.TemporaryDirectory() as folder, programs_in(Path(folder), is_forked=False) as programs:
            settings = some_settings(bootstrap, partitions=8, send_gap=0, session_timeout=30, max_in_flight=in_flight)
            with topics_of(settings):
                rows.append({"max_in_flight": in_flight} | asyncio.run(_measure(MailSystem(programs, settings))))
        print("\n".join(f"{name:22} {value}" for name, value in rows[-1].items()), file=sys.stderr)
    print(json.dumps({"machine": machine(bootstrap), "rows": rows}, indent=1))


async def _measure(system: MailSystem) -> dict[str, Any]:
    await system.publish(MAILS, text="x" * BODY_BYTES)
    [worker] = system.add_workers(1)
    process = psutil.Process(worker.pid)
    first = await _until(worker, process, 1)
    last = await _until(worker, process, MAILS * 0.98)
    mails, cpu = last["sent"] - first["sent"], last["cpu"] - first["cpu"]
    await _until(worker, process, MAILS)
    api = system.programs.api(system.settings).ready()
    await asyncio.sleep(2)
    idle = {
        name: psutil.Process(part.pid).memory_info().rss / 2**20 for name, part in (("worker", worker), ("api", api))
    }
    return {
        "mails_per_cpu_second": round(mails / cpu),
        "cpu_us_per_mail": round(cpu / mails * 1e6),
        "mails_per_second": round(mails / (last["at"] - first["at"])),
        "rss_mib_after": {name: round(size) for name, size in idle.items()},
    }


async def _until(worker: Program, process: psutil.Process, sent: float) -> dict[str, float]:
    """Look until that many mails are SENT; what was seen then."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        seen = sent_by(worker)
        if seen >= sent:
            times = process.cpu_times()
            return {"sent": seen, "cpu": times.user + times.system, "at": time.monotonic()}
        await asyncio.sleep(LOOK_SECONDS)
    raise SystemExit(f"only {sent_by(worker):.0f} mails were sent within {LIMIT_SECONDS} s")


def sent_by(worker: Program) -> float:
    with contextlib.suppress(httpx.HTTPError):
        text = httpx.get(f"{worker.url}/metrics", timeout=5).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "mailstream_emails_total" and sample.labels["status"] == "SENT":
                    return sample.value
    return 0.0


if __name__ == "__main__":
    main()
