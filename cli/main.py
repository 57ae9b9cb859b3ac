"""The root of the command line. Data goes to stdout, talk to stderr; exit 0 ok, 1 failed, 2 wrong use."""

import importlib
import pkgutil
import sys
from typing import NoReturn

import typer

import cli
from mailstream.errors import MailstreamError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _assemble() -> None:
    """Take in every module beside this one, but those that begin with an underscore: they are behind the verbs.

    ``add_to(app)`` adds verbs to the root; a ``group`` (typer.Typer) is a group of verbs under the name of its
    module. Sides are imported inside the commands, so that ``--help`` is quick.
    """
    for found in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
        if found.name == "main" or found.name.startswith("_"):
            continue
        module = importlib.import_module(f"cli.{found.name}")
        if hasattr(module, "add_to"):
            module.add_to(app)
        elif hasattr(module, "group"):
            app.add_typer(module.group, name=found.name.replace("_", "-"))


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
