"""One worker process: check, start, drain, exit code."""

import asyncio
import gc

import faust
import structlog
import uvloop

from mailstream import logs, topics
from mailstream.clock import Clock
from mailstream.errors import WrongSettings
from mailstream.log.kafka import Kafka
from mailstream.settings import PREFIX, Settings, load
from streams.app import create_app
from streams.health import Health
from streams.statuses import store

log = structlog.get_logger(__name__)

NEEDED = (
    ("SENDGRID_API_KEY", "a key with mail.send only"),
    ("SENDER", "the address of mails whose request names none, verified at SendGrid: it also probes with it"),
)


def run(settings: Settings | None = None, clock: Clock | None = None) -> int:
    """Run until SIGTERM or a crash. Returns the exit code: 0 after a drain, 1 after a crash.

    Raises WrongSettings, NoScratch, NoKafka, TopicsDiffer before anything is joined or sent.
    """
    settings = settings or load()
    missing = [
        f"{PREFIX}{name}: is needed by the worker; {why}"
        for name, why in NEEDED
        if getattr(settings, name.lower()) is None
    ]
    if missing:
        raise WrongSettings("\n".join(missing))
    logs.set_up(settings)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # a tenth less CPU per mail than asyncio's own loop
    gc.set_threshold(50_000, 20, 100)  # futures and records die young by reference counting; the rest lives long
    store.try_out(settings)
    kafka = Kafka(settings)
    kafka.require_topics()
    app = create_app(settings, clock, kafka=kafka, request_retention=kafka.retention_seconds(topics.REQUESTED))
    health = Health(app, host=settings.worker_host, port=settings.worker_port)
    worker = faust.Worker(
        app, health, override_logging=False, redirect_stdouts=False, quiet=True, loglevel=settings.log_level
    )
    log.info("worker starts", worker=settings.worker_id, send_gap=settings.send_gap, partitions=settings.partitions)
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
