"""The root of the command line. Data goes to stdout, talk to stderr; exit 0 ok, 1 failed, 2 wrong use."""

import importlib
import sys
from typing import NoReturn

import typer

from mailstream.errors import MailstreamError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

#: Groups of verbs: module under ``cli`` with a ``group`` (typer.Typer). A module that only adds verbs to the root
#: has a function ``add_to(app)`` instead. Sides are imported inside the commands, so that ``--help`` is quick.
GROUPS: dict[str, str] = {}
ROOTS: tuple[str, ...] = ("api", "worker")


def _assemble() -> None:
    for module in ROOTS:
        importlib.import_module(f"cli.{module}").add_to(app)
    for name, module in GROUPS.items():
        app.add_typer(importlib.import_module(f"cli.{module}").group, name=name)


def main() -> NoReturn:
    """Run a command; an error of ours is told in its own words, without a stack."""
    try:
        app()
    except MailstreamError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


_assemble()

if __name__ == "__main__":
    main()
