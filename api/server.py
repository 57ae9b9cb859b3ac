"""The process `mailstream api`: one socket, one loop, an end that drains."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn
import uvloop

from api.app import create_api
from api.middleware import GatewayMiddleware
from api.parts import AppState
from api.protocol import Protocol
from mailstream import logs, settings
from mailstream.domain.errors import MailstreamError, WrongSettings
from mailstream.settings import Settings

_log = structlog.get_logger(__name__)
#: Below the drain time of a container.
DRAIN_SECONDS = 20
#: Longer than clients and proxies keep a connection (nginx and AWS: 60 s), so that it is they who close: a request that
#: meets our close is lost, and whether it was taken is not known.
KEEP_ALIVE_SECONDS = 75


class Server(uvicorn.Server):
    """uvicorn, but a stop signal ends the process with 0 and open streams are told first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn raises them again when it is done, and the exit code would not be 0."""
        yield


def run() -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 with one clear line on stderr."""
    try:
        found = settings.load()
        logs.set_up(found)
        _allow_many_connections()
        gc.set_threshold(50_000, 20, 100)  # requests die young by reference counting; what lives long has no cycles
        sys.setswitchinterval(0.0005)  # the tail's thread works beside the loop: a million load in 8.4 s instead of 9.5
        listener = _listen(found)
        with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
            return runner.run(_serve(found, listener))
    except MailstreamError as error:
        print(error, file=sys.stderr)
        return 1


def _allow_many_connections() -> None:
    """A connection is a file: many systems give a process 1,024 unless it asks for what it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(found: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in found.api_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((found.api_host, found.api_port))
    except OSError as error:
        raise WrongSettings(
            f"The API cannot listen on {found.api_host}:{found.api_port} ({error.strerror}). "
            "Set MAILSTREAM_API_PORT or MAILSTREAM_API_HOST to a free one."
        ) from None
    return listener


def server_of(api: GatewayMiddleware) -> Server:
    """The HTTP server of an API whose parts are started and stopped by the caller."""
    return Server(
        uvicorn.Config(
            api,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            backlog=4096,
        )
    )


async def _serve(found: Settings, listener: socket.socket) -> int:
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        """End the process: a new one starts from what is in Kafka."""
        _log.error("api.ends", error=str(error))
        failures.append(error)
        _stop(server, api)

    api = create_api(found, failed=failed)
    server = server_of(api)
    loop = asyncio.get_running_loop()
    # The lifespan is entered here, not by uvicorn: its errors are ours to tell, in one line.
    async with api.app.router.lifespan_context(api.app):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, server, api)
        host, port = listener.getsockname()[:2]
        _log.info("api.listening", host=host, port=port)
        await server.serve(sockets=[listener])
        _log.info("api.stopped")
        if failures:
            raise failures[0]
        return 0


def _stop(server: Server, api: GatewayMiddleware) -> None:
    parts: AppState | None = getattr(api.app.state, "parts", None)  # none while it starts
    if parts is not None:
        parts.stop_waiting()
    server.should_exit = True
