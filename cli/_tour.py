"""What ``mailstream dev up`` shows: the system starting, and one mail from each of the two sources up to SENT."""

import asyncio
import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from cli._caller import Api, api_at, is_success, show
from dev.up import EXAMPLES, LocalSystem
from mailstream.domain.email_id import derived
from mailstream.domain.errors import NotStarted, Refused
from mailstream.domain.recipient import canonical
from mailstream.settings import Settings

#: Two gaps, a group to join, and a machine that may be slow.
SENT_SECONDS = 60.0
#: Of the example's rule: with the event's id it makes the id of the email .
RULE, TENANT = "order-shipped", "dev"
AD_HOC = {
    "to": {"email": "ada@example.com", "name": "Ada"},
    "subject": "Hello from mailstream",
    "text": "This mail was asked for by HTTP.",
    "reference": "first-mail",
}


def demo(settings: Settings) -> int:
    """Start everything, send the sample mails, stop. Returns the exit code: 0 when both were sent."""
    console = Console()
    with LocalSystem(settings, console) as system:
        is_sent = asyncio.run(_both(system, console))
        console.print()
    console.print("[green]All sample mails are SENT.[/]" if is_sent else "[red]Not all sample mails were sent.[/]")
    return 0 if is_sent else 1


def stay(settings: Settings) -> int:
    """The same, but stay up until a part ends by itself: then the exit code is 1."""
    console = Console()
    with LocalSystem(settings, console) as system:
        asyncio.run(_both(system, console))
        _tell_addresses(system, console)
        while (part := system.ended()) is None:
            time.sleep(0.5)
        text = f"{part.name} ended with exit code {part.exit_code}. {part.where_to_read()}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return 1


def _tell_addresses(system: LocalSystem, console: Console) -> None:
    console.print(f"""
Open
  {system.sendgrid_url}/          the inbox: every mail that the emulator took
  {system.api_url}/docs      the API; its key is `dev`
  {system.worker_url}/metrics   the worker's metrics; {system.worker_url}/readyz says what it waits for
  {system.logs}/          the logs

Ask for one more
  MAILSTREAM_DEV=1 {_program()} send --to you@example.com --subject Hello --text Hello --wait

Ctrl-C stops all of this and nothing else; the data are kept for the next time (`make clean` removes them).""",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _program() -> str:
    """How this program is called from here: it is on the PATH only while its environment is active."""
    path = Path(sys.executable).with_name("mailstream")
    if shutil.which("mailstream") == str(path):
        return "mailstream"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


async def _both(system: LocalSystem, console: Console) -> bool:
    console.print("\nTwo mails, one from each source")
    async with api_at(system.api_url, "dev") as api:
        asked = (await api.ask(AD_HOC, None))["id"]
        ordered = await _say_shipped(system)
        return all(
            [
                await _shown(api, asked, "By HTTP: POST /v1/emails", system, console),
                await _shown(api, ordered, "By a domain event: order.shipped in shop.orders", system, console),
            ]
        )


async def _say_shipped(system: LocalSystem) -> str:
    """Let the example's other service publish its event. Returns the id of the email that the rule makes of it."""
    arguments = ["--bootstrap", system.bootstrap, "--topic", system.orders_topic()]
    program = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / "order_shipped.py"), *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await program.communicate()
    if program.returncode != 0:
        raise NotStarted("examples/order_shipped.py could not publish its event.")
    event: dict[str, Any] = json.loads(said)
    recipient = canonical(event["data"]["customer"]["email"])
    return derived(TENANT, event["source"], f"{event['id']}/{RULE}", recipient)


async def _shown(api: Api, email_id: str, title: str, system: LocalSystem, console: Console) -> bool:
    """Show one timeline as it grows. Whether the mail was sent in time; else say which log to read."""
    console.print(f"\n  [bold]{title}[/]  [dim]{email_id}[/]", highlight=False, soft_wrap=True)
    say = partial(console.print, highlight=False, soft_wrap=True)
    try:
        async with asyncio.timeout(SENT_SECONDS):
            while True:
                try:
                    email = await show(api, email_id, lambda line: say(f"    {line}"))
                    break
                except Refused:  # no worker has read the event yet
                    await asyncio.sleep(0.2)
    except TimeoutError:
        console.print(f"  [red]Not SENT within {SENT_SECONDS:g} s.[/] Read {system.logs / 'worker.log'}.")
        return False
    if not is_success(email):
        console.print(f"  [red]It ended {email['status']}.[/] Read {system.logs / 'worker.log'}.")
    return is_success(email)
