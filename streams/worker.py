"""One worker process: check, start, drain, exit code.

SIGTERM stops the Faust app: ``_consumer_wait_empty`` in ``streams/faust_guards/app.py`` drains, with ``drain`` in
``streams/partitions/assignment.py``; ``on_stop`` beside the first ends the process when that takes too long.
"""

import asyncio
import gc
from typing import Any

import faust
import structlog
import uvloop

from mailstream import logs
from mailstream.clock import Clock
from mailstream.domain import topics
from mailstream.domain.errors import MailstreamError, WrongSettings
from mailstream.settings import PREFIX, Settings, load
from streams.app import MailApp, create_app
from streams.health import Health
from streams.statuses import store

log = structlog.get_logger(__name__)

NEEDED = (
    ("SENDGRID_API_KEY", "a key with mail.send only"),
    ("SENDER", "the address of mails whose request names none, verified at SendGrid: it also probes with it"),
)


class MailWorker(faust.Worker):  # type: ignore[misc]
    """What runs the app, for ``mailstream worker`` and for ``faust -A streams.main worker``: checks first, then probes too.

    Ends the process with 1 and says why when a setting is missing, the topics differ, no broker answers or there is no
    folder to write to; nothing is joined or sent then.
    """

    def __init__(self, app: MailApp, *services: Any, loglevel: str | None = None, **options: Any) -> None:
        settings = app.mailstream_settings
        try:
            require_needed(settings)
            logs.set_up(settings, level=loglevel)
            store.try_out(settings)
            app.kafka.require_topics()
            app.request_retention = app.kafka.retention_seconds(topics.REQUESTED)
        except MailstreamError as error:
            raise SystemExit(str(error)) from None
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # a tenth less CPU per mail than asyncio's own loop
        gc.set_threshold(50_000, 20, 100)  # futures and records die young by reference counting; the rest lives long
        health = Health(app, host=settings.worker_host, port=settings.worker_port)
        super().__init__(app, health, *services, **{**options, "override_logging": False, "redirect_stdouts": False})
        log.info("worker starts", worker=settings.worker_id, send_gap=settings.send_gap, partitions=settings.partitions)


def require_needed(settings: Settings) -> None:
    """Raise WrongSettings with a line for each setting that no worker can do without."""
    missing = [
        f"{PREFIX}{name}: is needed by the worker; {why}"
        for name, why in NEEDED
        if getattr(settings, name.lower()) is None
    ]
    if missing:
        raise WrongSettings("\n".join(missing))


def run(settings: Settings | None = None, clock: Clock | None = None) -> int:
    """Run until SIGTERM or a crash. Returns the exit code: 0 after a drain, 1 after a crash.

    Raises TemplateError, WrongRules, WrongSettings.
    """
    try:
        MailWorker(create_app(settings or load(), clock), quiet=True).execute_from_commandline()
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return int(end.code or 0)
    return 0
