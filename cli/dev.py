"""``mailstream dev …``: a Kafka, a SendGrid and a whole system on this machine."""

import signal
import time
from functools import partial

import typer

from mailstream import settings

group = typer.Typer(no_args_is_help=True, help="A Kafka, a SendGrid and a whole system on this machine.")


class Stopped(Exception):
    """Somebody asked us to stop."""


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
