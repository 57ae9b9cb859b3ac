"""The emulator as one process: mail/send beside the inbox, the ledger and the orders."""

import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response

from dev.sendgrid import answers
from dev.sendgrid.behaviour import Behaviour
from dev.sendgrid.connection import Connection
from dev.sendgrid.inbox import Inbox
from dev.sendgrid.ledger import Ledger
from dev.sendgrid.send import MailSendRoute, Receive, Scope, Send
from dev.sendgrid.shape import Violation
from dev.sendgrid.webhook import Signer, Webhook

MAIL_SEND = "/v3/mail/send"
#: Nothing from elsewhere, no inline script, and mails only in our own frame.
_PAGE_POLICY = "default-src 'self'; img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: A mail's HTML: no script, no form, no remote content, even when it is opened on its own.
_MAIL_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_PAGE_FILES = {
    "/": ("inbox.html", "text/html"),
    "/inbox.js": ("inbox.js", "text/javascript"),
    "/inbox.css": ("inbox.css", "text/css"),
}


class Emulator:
    """The ASGI app: mail/send directly, all else through FastAPI."""

    def __init__(self, *, webhook_url: str | None = None, webhook_secret: int | None = None) -> None:
        self._behaviour, self._ledger, self._inbox = Behaviour(webhook_url), Ledger(), Inbox()
        self._signer = Signer(webhook_secret)
        self._webhook = Webhook(self._behaviour, self._signer)
        self._mail_send = MailSendRoute(self._behaviour, self._ledger, self._inbox, self._webhook)
        self._rest = self._routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == MAIL_SEND and scope["method"] == "POST":
            await self._mail_send(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    def _routes(self) -> FastAPI:
        @contextlib.asynccontextmanager
        async def at_work(_: FastAPI) -> AsyncIterator[None]:
            async with self._webhook.at_work():
                yield

        app = FastAPI(title="SendGrid emulator", docs_url=None, redoc_url=None, lifespan=at_work)
        self._add_orders(app)
        self._add_inbox(app)

        @app.get("/healthz")
        async def healthz() -> dict[str, str]:
            return {"status": "ok"}

        @app.api_route("/v3/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
        async def other(path: str) -> Response:
            answer = answers.refusal(
                405 if path == "mail/send" else 404, Violation("There is only POST /v3/mail/send.")
            )
            return Response(answer.body, answer.status, media_type="application/json")

        return app

    def _add_orders(self, app: FastAPI) -> None:
        @app.get("/ledger")
        async def ledger(since: int = 0, limit: int | None = None, all: bool = False) -> Response:  # noqa: A002
            """Accepted calls in order, with ``all=1`` the others too; ``since`` is the ``next`` of the page before."""
            return _json(self._ledger.page(since=since, limit=limit, with_refused=all))

        @app.delete("/ledger", status_code=204)
        async def clear_ledger() -> None:
            self._ledger.clear()

        @app.get("/behaviour")
        async def behaviour() -> Response:
            return _json(self._behaviour.shown() | {"webhook_so_far": self._webhook.shown()})

        @app.post("/behaviour")
        async def order(request: Request) -> Response:
            """Set what is named: ``seed, latency_seconds, rules, verified_senders, api_keys, webhook``."""
            try:
                self._behaviour.order(await request.body())
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return _json({"error": str(error)}, 400)
            return _json(self._behaviour.shown())

        @app.delete("/behaviour", status_code=204)
        async def reset() -> None:
            """No faults, no latency; events that wait are dropped."""
            self._behaviour.reset()
            self._webhook.forget()

        @app.get("/webhook-key")
        async def webhook_key() -> Response:
            """The public key for MAILSTREAM_SENDGRID_WEBHOOK_KEYS."""
            return Response(self._signer.public_key, media_type="text/plain")

    def _add_inbox(self, app: FastAPI) -> None:
        @app.get("/inbox/mails")
        async def mails(search: str = "", limit: int = 100) -> Response:
            """The newest mails."""
            return _json(self._inbox.page(search=search, limit=limit))

        @app.delete("/inbox/mails", status_code=204)
        async def clear_inbox() -> None:
            self._inbox.clear()

        @app.get("/inbox/mails/{seq}")
        async def mail(seq: int) -> Response:
            """One mail with its source."""
            if (found := self._inbox.one(seq)) is None:
                return _json({"error": "This mail is not here any more."}, 404)
            return _json(found)

        @app.get("/inbox/mails/{seq}/html")
        async def html(seq: int) -> Response:
            """The HTML of one mail, sandboxed."""
            headers = {"Content-Security-Policy": _MAIL_POLICY, "Referrer-Policy": "no-referrer"}
            return _page(self._inbox.html(seq) or "", "text/html", headers)

        @app.get("/", include_in_schema=False)
        @app.get("/inbox.js", include_in_schema=False)
        @app.get("/inbox.css", include_in_schema=False)
        async def page(request: Request) -> Response:
            file, media_type = _PAGE_FILES[request.url.path]
            text = resources.files("dev.sendgrid.page").joinpath(file).read_text("utf-8")
            return _page(text, media_type, {"Content-Security-Policy": _PAGE_POLICY})


class _Server(uvicorn.Server):
    """Ends as a success when it is told to end, whatever calls it was told to leave hanging."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut all connections, then stop."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM; uvicorn would raise them again and end the process with their code."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def create_server(
    host: str = "127.0.0.1", port: int = 8025, *, webhook_url: str | None = None, webhook_secret: int | None = None
) -> uvicorn.Server:
    """A server that is not running yet; port 0 takes a free one."""
    emulator = Emulator(webhook_url=webhook_url, webhook_secret=webhook_secret)
    return _Server(
        uvicorn.Config(
            emulator, host=host, port=port, http=Connection, ws="none", access_log=False, log_level="warning",
            server_header=False, proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=1, backlog=4096,
        )
    )  # fmt: skip


def run(
    host: str = "127.0.0.1", port: int = 8025, *, webhook_url: str | None = None, webhook_secret: int | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then return.

    ``webhook_url``: where events go, as ``http://127.0.0.1:8000/v1/events/sendgrid``. ``webhook_secret``: the private
    scalar of a signing key that stays the same over restarts; without it a key is drawn and shown at ``/webhook-key``.
    """
    create_server(host, port, webhook_url=webhook_url, webhook_secret=webhook_secret).run()


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _page(text: str, media_type: str, headers: dict[str, str]) -> Response:
    return Response(text, media_type=media_type, headers={**headers, "X-Content-Type-Options": "nosniff"})
