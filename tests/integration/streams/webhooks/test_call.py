"""A call to an endpoint reaches the public internet and nothing else."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.webhooks.call import Caller, PrivateAddress, require_public


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1"],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(PrivateAddress):
        require_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_a_public_address_passes(address: str) -> None:
    require_public(address)


class Server:
    """Counts who reached it."""

    def __init__(self) -> None:
        self.calls = 0
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.calls += 1
        if request.path == "/away":
            raise web.HTTPFound("/here")
        return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/{any:.*}", server.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


class Rebinding(AbstractResolver):
    """A name that was public when somebody looked, and is this machine now."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
async def test_no_way_of_writing_it_reaches_this_machine(server: Server, host: str) -> None:
    caller = Caller()

    assert await caller.post(f"http://{host}:{server.port}/", b"{}", {}) is None

    assert server.calls == 0
    await caller.close()


async def test_a_name_that_changes_its_mind_reaches_nothing(server: Server) -> None:
    caller = Caller(resolver=Rebinding())

    assert await caller.post(f"http://crm.example.com:{server.port}/", b"{}", {}) is None

    assert server.calls == 0
    await caller.close()


async def test_a_redirect_is_not_followed_and_a_proxy_not_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    caller = Caller(is_dev=True)

    assert await caller.post(f"http://127.0.0.1:{server.port}/away", b"{}", {}) == 302
    assert server.calls == 1

    assert await caller.post("http://crm.invalid/", b"{}", {}) is None, "a proxy would have answered"
    assert server.calls == 1
    await caller.close()


async def test_nobody_there_is_no_answer() -> None:
    caller = Caller(is_dev=True)

    assert await caller.post("http://127.0.0.1:1/", b"{}", {}) is None
    assert await caller.post("http://[bad/", b"{}", {}) is None
    await caller.close()
