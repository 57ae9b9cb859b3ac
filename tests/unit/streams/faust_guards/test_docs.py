"""docs/faust.md has a row for each guard, and each test that it names is there."""

import ast
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from mailstream.settings import Settings
from streams import faust_guards
from streams.faust_guards.settings import faust_settings

TESTS = Path(__file__).parents[3]
GUARDS = TESTS.parent / "docs" / "faust.md"

#: What only plugs a guard in, and has no row of its own.
PLUGS = {"GuardedApp.BootStrategy", "Transport.Consumer", "Consumer._new_consumer_thread"}


def rows() -> list[list[str]]:
    """Cells of the table of guards."""
    lines = GUARDS.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| Guard |"))
    table = lines[start + 2 :]
    end = next(number for number, line in enumerate(table) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[:end]]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def modules() -> list[ModuleType]:
    return [
        importlib.import_module(f"{faust_guards.__name__}.{m.name}")
        for m in pkgutil.iter_modules(faust_guards.__path__)
    ]


def written_in(kind: type) -> set[str]:
    """What the class itself defines; mode adds more to each of its services."""
    return set(vars(kind)) - set(vars(type(kind)("Bare", kind.__bases__, {})))


def overrides() -> set[str]:
    """Every attribute of ours that stands in for one of Faust's, as ``Class.attribute``."""
    found = set()
    for module in modules():
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ != module.__name__:
                continue
            stock = [base for base in kind.__mro__[1:] if base.__module__.startswith(("faust", "mode", "aiokafka"))]
            found |= {
                f"{kind.__name__}.{name}"
                for name in written_in(kind)
                if not name.startswith("__") and any(name in vars(base) for base in stock)
            }
    return found


def is_in_the_code(name: str) -> bool:
    """``Class.attribute``, or ``module.name``."""
    owner, attribute = name.split(".")
    places = [module if module.__name__.endswith(f".{owner}") else getattr(module, owner, None) for module in modules()]
    return any(attribute in vars(place) for place in places if place is not None)


@cache
def functions_in(path: str) -> set[str]:
    return {
        node.name
        for node in ast.parse((TESTS / path).read_text()).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    }


def test_every_override_of_faust_has_a_row() -> None:
    guards = set().union(*(named(row[0]) for row in rows()))

    assert overrides() - PLUGS <= guards


def test_every_row_names_what_is_in_the_code() -> None:
    chosen = faust_settings(Settings(_env_file=None))
    for guard, *_ in rows():
        for name in named(guard):
            assert name in chosen if guard.startswith("setting ") else is_in_the_code(name), name


def test_every_row_names_a_test_that_is_there_an_issue_and_an_end() -> None:
    for guard, stock, issue, tests, end in rows():
        assert named(tests), f"{guard} has no test"
        for test in named(tests):
            path, name = test.split("::")
            assert name in functions_in(path), test
        assert stock
        assert re.search(r"#\d+|none|–", issue), guard
        assert end, guard
