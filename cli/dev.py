"""``mailstream dev …``: a Kafka, a SendGrid and a whole system on this machine."""

import signal
import time
from functools import partial
from importlib.util import find_spec
from typing import Annotated

import typer

from mailstream import settings
from mailstream.domain.errors import NotStarted

group = typer.Typer(no_args_is_help=True, help="A Kafka, a SendGrid and a whole system on this machine.")


class Stopped(Exception):
    """We were asked to stop."""


def require_tools() -> None:
    """Raise NotStarted where only the product is installed, as in its image."""
    if find_spec("psutil") is None or find_spec("testcontainers") is None:
        raise NotStarted("This needs the development tools: run it in a checkout, after `make setup`.")


def until_stopped() -> None:
    """Make Ctrl-C and SIGTERM raise Stopped, once: what is being tidied up then is not disturbed by a second one."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in numbers:
        signal.signal(number, stop)


@group.command()
def kafka() -> None:
    """One Kafka node on loopback until Ctrl-C; its data survive in DATA_DIR."""
    require_tools()
    from dev.kafka.find import kafka as found

    chosen = settings.load()
    until_stopped()
    try:
        with found(chosen, tell=partial(typer.echo, err=True)) as here:
            typer.echo(f"{here.title} takes records at {here.bootstrap}.", err=True)
            if here.broker is None:
                typer.echo("Nothing was started.", err=True)
                return
            typer.echo("Ctrl-C stops it; its data are kept.", err=True)
            while here.broker.is_running():
                time.sleep(0.5)
        typer.echo("Kafka ended by itself.", err=True)
        raise typer.Exit(1)
    except Stopped:
        typer.echo("Stopped.", err=True)


@group.command()
def sendgrid(
    host: Annotated[
        str, typer.Option(help="address to listen on; the emulator takes mail from all callers")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on")] = 8025,
    webhook_url: Annotated[str | None, typer.Option(help="where signed events are posted")] = None,
    webhook_secret: Annotated[
        str | None, typer.Option(help="private scalar (hex) of a key that stays the same")
    ] = None,
) -> None:
    """The SendGrid emulator: takes mail for no one, shows it at /, and misbehaves when told."""
    from dev.sendgrid.app import run

    run(host, port, webhook_url=webhook_url, webhook_secret=int(webhook_secret, 16) if webhook_secret else None)


@group.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="end when the sample mails are sent: exit 0, else 1")] = False,
) -> None:
    """Kafka, topics, SendGrid emulator, API and worker on this machine, and one mail from each source; until Ctrl-C."""
    require_tools()
    from cli import _tour as tour

    chosen = settings.load()
    until_stopped()
    try:
        code = tour.demo(chosen) if demo else tour.stay(chosen)
    except Stopped:
        code = 0
    raise typer.Exit(code)


@group.command()
def clean() -> None:
    """Remove what `dev up` and `dev kafka` keep in DATA_DIR: Kafka's data and jars, logs. Refuses while one runs."""
    require_tools()
    from dev.up import forget

    chosen = settings.load()
    forget(chosen)
    typer.echo(f"Removed what mailstream kept in {chosen.data_dir}.", err=True)
