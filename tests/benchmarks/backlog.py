"""A million emails wait (row 32): what a worker weighs then, how it starts with them, and how fast it sends.

`python -m tests.benchmarks.backlog [COUNT]`: a table on stderr, JSON on stdout. Requests of about 1 KB, lane normal, all
due. First the gap is so large that nearly none is sent, then 10 ms; at last it is off. The rates are compared with those of a
small backlog, for each CPU-second of the worker.
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

from mailstream.clock import moment
from mailstream.domain import codec, email_id, topics
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.request import Address, EmailRequest, Lane
from mailstream.domain.topics import Naming
from mailstream.kafka.config import connection
from mailstream.kafka.producer import SETTINGS
from mailstream.settings import Settings
from tests.benchmarks.machine import machine
from tests.benchmarks.worker import LOOK_SECONDS, sent_by
from tests.support.mail_system import MailSystem
from tests.support.processes import Program, Programs, programs_in
from tests.support.system import some_settings, topics_of

EMAILS, BODY_BYTES = 1_000_000, 700
GAP_SECONDS = 2.0
PACED_SECONDS, PACED_FOR_SECONDS = 0.01, 15.0
SMALL, WARM, MEASURED = 10_000, 500, 6000  #: mails: in the small backlog, sent before the rate is taken, and for it
#: Without any progress before it is given up.
STUCK_SECONDS = 120.0
LOAD_SECONDS = 600.0


def main(emails: int) -> None:
    """Run and print."""
    bootstrap = Settings().kafka_bootstrap
    with tempfile.TemporaryDirectory() as folder, programs_in(Path(folder), is_forked=False) as programs:
        small = _with_topics(bootstrap, programs, lambda system: _small(system))
        large = _with_topics(bootstrap, programs, lambda system: _measure(system, emails))
        again = _with_topics(bootstrap, programs, lambda system: _small(system))
    figures = {
        **large,
        "paced_rate_small_backlog": [small["paced"], again["paced"]],
        "rate_small_backlog": [small["rate"], again["rate"]],
    }
    print("\n".join(f"{name:34} {value}" for name, value in figures.items()), file=sys.stderr)
    print(json.dumps({"machine": machine(bootstrap), **figures}, indent=1))


def _with_topics(bootstrap: str, programs: Programs, measure: Any) -> dict[str, Any]:
    settings = some_settings(bootstrap, partitions=8, send_gap=GAP_SECONDS, session_timeout=30)
    with topics_of(settings):
        system = MailSystem(programs, settings)
        try:
            figures: dict[str, Any] = asyncio.run(measure(system))
        finally:
            system.emulator.stop()
        return figures


async def _small(system: MailSystem) -> dict[str, Any]:
    write(system.settings, SMALL)
    worker = await _holding(system, SMALL)
    worker.stop()
    return {"paced": await _paced_rate(system), "rate": await _rate(system)}


async def _measure(system: MailSystem, emails: int) -> dict[str, Any]:
    worker = system.programs.worker(system.settings).ready()
    empty, cpu = memory_of(worker), _cpu_seconds(worker)
    begun = time.monotonic()
    write(system.settings, emails)
    print(f"{emails} requests of {_size()} bytes written in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    await taken_in(worker, emails)
    seconds, cpu = time.monotonic() - begun, _cpu_seconds(worker) - cpu
    await asyncio.sleep(3)
    full = memory_of(worker)
    (critical,) = await system.publish(1, lane=Lane.CRITICAL)
    asked = time.monotonic()
    while critical not in {call["id"] for call in system.ledger()}:
        await asyncio.sleep(0.05)
    overtook = time.monotonic() - asked
    worker.stop()
    begun = time.monotonic()
    again = system.programs.worker(system.settings).ready(seconds=LOAD_SECONDS)
    load, load_cpu = time.monotonic() - begun, _cpu_seconds(again)
    await asyncio.sleep(3)
    loaded = memory_of(again)
    again.stop()
    return {
        "emails": emails,
        "mib_empty, peak": empty,
        "mib_full, peak": full,
        "mib_after_start_with_backlog, peak": loaded,
        "taken_in_seconds": round(seconds),
        "taken_in_cpu_seconds": round(cpu),
        "critical_overtook_in_seconds": round(overtook, 2),
        "start_with_backlog_seconds": round(load, 1),
        "start_with_backlog_cpu_seconds": round(load_cpu, 1),
        "paced_rate_large_backlog": await _paced_rate(system),
        "rate_large_backlog": await _rate(system),
        "load_average": psutil.getloadavg()[0],
    }


async def _holding(system: MailSystem, emails: int) -> Program:
    worker = system.programs.worker(system.settings).ready()
    await taken_in(worker, emails)
    return worker


async def _paced_rate(system: MailSystem) -> float:
    """Mails a second with a gap of ``PACED_SECONDS``, of a worker that starts with what waits."""
    settings = system.settings.model_copy(update={"send_gap": PACED_SECONDS})
    worker = system.programs.worker(settings).ready(seconds=LOAD_SECONDS)
    await asyncio.sleep(5)
    first, begun = sent_by(worker), time.monotonic()
    await asyncio.sleep(PACED_FOR_SECONDS)
    rate = (sent_by(worker) - first) / (time.monotonic() - begun)
    worker.stop()
    return round(rate, 1)


async def _rate(system: MailSystem) -> int:
    """Mails for each CPU-second of a worker that starts with what waits, gap off."""
    settings = system.settings.model_copy(update={"send_gap": 0.0})
    worker = system.programs.worker(settings).ready(seconds=LOAD_SECONDS)
    first, begun = await _sent(worker, WARM)
    last, ended = await _sent(worker, WARM + MEASURED)
    worker.stop()
    return round((last - first) / (ended - begun))


async def _sent(worker: Program, count: int) -> tuple[float, float]:
    """Look until that many are SENT: how many, and the CPU-seconds by then."""
    deadline = time.monotonic() + LOAD_SECONDS
    while (seen := sent_by(worker)) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {seen:.0f} of {count} mails were sent")
        await asyncio.sleep(LOOK_SECONDS)
    return seen, _cpu_seconds(worker)


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


def write(settings: Settings, emails: int) -> None:
    """Put so many requests into Kafka."""
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


async def taken_in(worker: Program, emails: int) -> None:
    """Wait until all of them wait in the worker."""
    begun = moved = time.monotonic()
    most = -1.0
    while most < emails * 0.999:
        seen = _waiting(worker)
        if seen > most:
            most, moved = seen, time.monotonic()
        if time.monotonic() - moved > STUCK_SECONDS:
            raise SystemExit(f"only {most:.0f} emails were taken in")
        print(f"{time.monotonic() - begun:6.0f} s {most:9.0f} wait {memory_of(worker)[0]:5} MiB", file=sys.stderr)
        await asyncio.sleep(5)


def _waiting(worker: Program) -> float:
    with contextlib.suppress(httpx.HTTPError):
        return float(httpx.get(f"{worker.url}/readyz", timeout=5).json()["waiting"])
    return 0.0


def memory_of(worker: Program) -> tuple[int, int]:
    """MiB now, and the most since it was started."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) >> 10, int(lines["VmHWM"].split()[0]) >> 10


def _cpu_seconds(worker: Program) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EMAILS)
