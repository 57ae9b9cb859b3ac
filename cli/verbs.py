"""All verbs of the command line, in one Typer application. Sides are imported inside the commands: ``--help`` is quick."""

import typer

from cli import audit, dead_letters, dev, held, keys, redrive, templates, topics, triggers, webhooks
from cli.api import api
from cli.send import send
from cli.status import status
from cli.worker import worker

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for verb in (api, send, status, worker):
    app.command()(verb)
for module in (audit, dead_letters, dev, held, keys, redrive, templates, topics, triggers, webhooks):
    app.add_typer(module.group, name=module.__name__.removeprefix("cli.").replace("_", "-"))
