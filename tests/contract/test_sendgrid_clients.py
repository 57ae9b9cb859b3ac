"""SendGrid's Node and Go clients work against us with only host and key changed."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from api import controls
from mailstream.domain import codec
from mailstream.domain.request import Address, Batch, Control, EmailRequest
from mailstream.settings import Settings
from tests.support.api import Requests, a_server

CLIENTS = Path(__file__).parent / "sendgrid_clients"
#: Fetched once per checkout.
CACHE = Path(__file__).parents[2] / ".mailstream" / "sendgrid_clients"


async def run(*command: str | Path, folder: Path, **variables: str) -> bytes:
    """Run a program; its output, or an error with what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=os.environ | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


def copy_of(client: str, tool: str) -> Path:
    """The client's folder outside of the sources, for what is fetched into it."""
    if not shutil.which(tool):
        pytest.skip(f"No `{tool}`: install it to test SendGrid's {client} client")
    shutil.copytree(CLIENTS / client, CACHE / client, dirs_exist_ok=True)
    return CACHE / client


async def node(**variables: str) -> bytes:
    folder = copy_of("node", "npm")
    if not (folder / "node_modules").exists():
        await run("npm", "ci", "--silent", folder=folder)
    return await run("node", "send.js", folder=folder, **variables)


async def go(**variables: str) -> bytes:
    folder = copy_of("go", "go")
    await run("go", "build", "-o", "client", ".", folder=folder)
    return await run(folder / "client", folder=folder, **variables)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", [pytest.param(node, id="Node"), pytest.param(go, id="Go")])
async def test_a_client_of_sendgrid_works_unchanged(
    settings: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.2)  # no worker runs that could decide the cancel
    async with a_server(settings) as api, Requests(settings) as requests:
        answer = json.loads(await client(HOST=str(api.http.base_url).rstrip("/"), KEY="dev"))

        record = codec.decode_requested((await requests.next())[0])
        assert isinstance(record, Batch)
        ada, bob = record.items
        assert answer["id"] == ada.id
        assert answer["statuses"] == [202, 200, 201, 400]
        assert answer["errors"][0]["field"] == "personalizations.0.to.0.email"
        assert (ada.to, ada.cc, ada.data) == (
            Address("ada@example.com", "Ada"),
            (Address("copy@example.com"),),
            {"n": 1},
        )
        assert (bob.to.email, bob.cc, bob.data) == ("bob@example.com", (), {"n": 2})
        assert ada.provider_options["custom_args"] == {"order": "17"}
        assert (ada.reply_to, ada.tags) == (Address("reply@example.com"), ("welcome",))
        assert ada.attachments[0].filename == "a.pdf"
        assert ada.send_at is not None
        sandbox = codec.decode_requested((await requests.next())[0])
        assert isinstance(sandbox, EmailRequest)
        assert sandbox.test
        cancels = [codec.decode_requested((await requests.next())[0]) for _ in range(2)]
        assert {cancel.id for cancel in cancels if isinstance(cancel, Control)} == {ada.id, bob.id}
