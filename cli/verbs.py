"""All verbs of the command line, in one Typer application."""

import importlib
import pkgutil

import typer

import cli

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _assemble() -> None:
    """Take in every module beside this one, but those that begin with an underscore: they are behind the verbs.

    ``add_to(app)`` adds verbs to the root; a ``group`` (typer.Typer) is a group of verbs under the name of its
    module. Sides are imported inside the commands, so that ``--help`` is quick.
    """
    for found in sorted(pkgutil.iter_modules(cli.__path__), key=lambda module: module.name):
        if found.name in ("main", "verbs") or found.name.startswith("_"):
            continue
        module = importlib.import_module(f"cli.{found.name}")
        if hasattr(module, "add_to"):
            module.add_to(app)
        elif hasattr(module, "group"):
            app.add_typer(module.group, name=found.name.replace("_", "-"))


_assemble()
