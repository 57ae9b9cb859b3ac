"""Log lines: a name and fields, JSON in production; never an address, subject, body or key."""

import logging
import sys
import time

import structlog

from mailstream.settings import Settings


class RateLimit(logging.Filter):
    """Let aiokafka say the same thing once in ``seconds``: in an outage it repeats itself 100 times a second."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now, what = time.monotonic(), (record.name, record.msg)
        if now - self._said.get(what, -self._seconds) < self._seconds:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[what] = now
        return True


def _is_no_step_of_life(record: logging.LogRecord) -> bool:
    """Leave out what every service of Faust announces, ``[^--Consumer]: Starting...``, below WARNING."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def set_up(settings: Settings, *, level: str | None = None) -> None:
    """Route structlog and the standard library (Faust, aiokafka, uvicorn) to stderr in one form, at this level."""
    is_console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((level or settings.log_level).upper())
    for chatty in ("aiokafka", "mode", "faust"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    handler.addFilter(RateLimit())
    handler.addFilter(_is_no_step_of_life)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
