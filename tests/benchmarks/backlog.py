"""A million emails wait (row 32): what a worker weighs then, how it starts with them, and that critical mail overtakes.

`python -m tests.benchmarks.backlog [COUNT]`: a table on stderr, JSON on stdout. Requests of about 1 KB, lane normal, all
due; the gap is so large that nearly none of them is sent meanwhile.
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
from confluent_kafka import Producer

from mailstream import codec, email_id, topics
from mailstream.clock import moment
from mailstream.log.client import connection
from mailstream.log.publish import SETTINGS
from mailstream.recipient import partition_of, recipient_hash
from mailstream.request import Address, EmailRequest, Lane
from mailstream.settings import Settings
from mailstream.topics import Naming
from tests.benchmarks.machine import machine
from tests.support.mail_system import MailSystem
from tests.support.processes import Program, programs_in
from tests.support.system import some_settings, topics_of

EMAILS, BODY_BYTES = 1_000_000, 700
GAP_SECONDS = 2.0
#: Without any progress before it is given up.
STUCK_SECONDS = 120.0


def main(emails: int) -> None:
    """Run and print."""
    bootstrap = Settings().kafka_bootstrap
    with tempfile.TemporaryDirectory() as folder, programs_in(Path(folder)) as programs:
        settings = some_settings(bootstrap, partitions=8, send_gap=GAP_SECONDS, session_timeout=30)
        with topics_of(settings):
            figures = asyncio.run(_measure(MailSystem(programs, settings), emails))
    print(json.dumps({"machine": machine(bootstrap), **figures}, indent=1))


async def _measure(system: MailSystem, emails: int) -> dict[str, Any]:
    (worker,) = system.add_workers(1)
    empty = _rss(worker)
    begun = time.monotonic()
    written = _write(system.settings, emails)
    print(f"{written} requests of {_size()} bytes written in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    peak = await _taken_in(worker, emails, begun)
    seconds = time.monotonic() - begun
    await asyncio.sleep(3)
    full = _rss(worker)
    (critical,) = await system.publish(1, lane=Lane.CRITICAL)
    asked = time.monotonic()
    while critical not in {call["id"] for call in system.ledger()}:
        await asyncio.sleep(0.05)
    overtook = time.monotonic() - asked
    worker.stop()
    begun = time.monotonic()
    (again,) = system.add_workers(1)
    start = time.monotonic() - begun
    figures = {
        "emails": emails,
        "rss_mib_empty": empty,
        "rss_mib_peak": peak,
        "rss_mib_full": full,
        "rss_mib_after_start_with_backlog": _rss(again),
        "bytes_per_email": round((full - empty) * 2**20 / emails),
        "taken_in_seconds": round(seconds),
        "critical_overtook_in_seconds": round(overtook, 2),
        "start_with_backlog_seconds": round(start, 1),
        "load_average": psutil.getloadavg()[0],
    }
    print("\n".join(f"{name:34} {value}" for name, value in figures.items()), file=sys.stderr)
    return figures


def _request(number: int) -> EmailRequest:
    recipient = f"backlog-{number}@example.com"
    return EmailRequest(
        id=email_id.new(recipient),
        to=Address(recipient),
        tenant="dev",
        source="test",
        requested_at=moment(time.time()),
        subject="Hello",
        text="x" * BODY_BYTES,
    )


def _size() -> int:
    return len(codec.encode(_request(0)))


def _write(settings: Settings, emails: int) -> int:
    name = Naming(settings.topic_prefix).of(topics.REQUESTED)
    producer = Producer({**SETTINGS, "linger.ms": 20, "compression.type": "lz4", **connection(settings)})
    headers = list(codec.headers_of(_request(0)))
    for number in range(emails):
        request = _request(number)
        key, partition = request.to.email, partition_of(recipient_hash(request.to.email), settings.partitions)
        while True:
            try:
                producer.produce(name, codec.encode(request), key.encode(), partition, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return emails


async def _taken_in(worker: Program, emails: int, begun: float) -> int:
    """Wait until all of them wait in the worker. Returns its largest weight meanwhile."""
    peak, most, moved = 0, -1.0, time.monotonic()
    while most < emails * 0.999:
        peak = max(peak, _rss(worker))
        seen = _waiting(worker)
        if seen > most:
            most, moved = seen, time.monotonic()
        if time.monotonic() - moved > STUCK_SECONDS:
            raise SystemExit(f"only {most:.0f} emails were taken in")
        print(f"{time.monotonic() - begun:6.0f} s {most:9.0f} wait {_rss(worker):5} MiB", file=sys.stderr)
        await asyncio.sleep(5)
    return peak


def _waiting(worker: Program) -> float:
    with contextlib.suppress(httpx.HTTPError):
        return float(httpx.get(f"{worker.url}/readyz", timeout=5).json()["waiting"])
    return 0.0


def _rss(worker: Program) -> int:
    return round(psutil.Process(worker.pid).memory_info().rss / 2**20)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EMAILS)
