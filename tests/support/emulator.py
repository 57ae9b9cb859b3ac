"""The SendGrid emulator in the test's own loop, on a free port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from dev.sendgrid.app import create_server

#: The signing key of the test vector in every run.
WEBHOOK_SECRET = 0x5EED


class EmulatorAtWork:
    """Where it listens, and its orders and records."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url, self.http = url, http

    async def order(self, **orders: Any) -> dict[str, Any]:
        """``POST /behaviour``; what is named is set."""
        answer = await self.http.post("/behaviour", json=orders)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def ledger(self, **query: Any) -> dict[str, Any]:
        """``GET /ledger``."""
        page: dict[str, Any] = (await self.http.get("/ledger", params=query)).json()
        return page


@contextlib.asynccontextmanager
async def an_emulator(webhook_url: str | None = None) -> AsyncIterator[EmulatorAtWork]:
    """Run one until the context ends."""
    server = create_server("127.0.0.1", 0, webhook_url=webhook_url, webhook_secret=WEBHOOK_SECRET)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the emulator did not start"
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            yield EmulatorAtWork(url, http)
    finally:
        server.should_exit = True
        await serving
