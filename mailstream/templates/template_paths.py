"""Which member of the data a template missed: found from the template's source, so that no value can appear in it."""

from collections.abc import Container, Mapping
from typing import Any

from jinja2 import Environment, meta, nodes

_ABSENT = object()


def place_of(error: Exception, file: str, files: Container[str]) -> tuple[str, int]:
    """File and line of the innermost template that was running when the error came."""
    found = file, 1
    step = error.__traceback__
    while step is not None:  # Jinja gives its frames the file name and the line numbers of the template
        if (name := step.tb_frame.f_code.co_filename) in files:
            found = name, step.tb_lineno
        step = step.tb_next
    return found


def missing_path(environment: Environment, source: str, line: int, data: Mapping[str, Any]) -> str:
    """The written path on this line, like ``customer.name``, that leads nowhere in the data; for people."""
    tree = environment.parse(source)
    given = meta.find_undeclared_variables(tree)
    chains = [chain for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)) if (chain := _path(node))]
    here = sorted({path for number, path in chains if number == line}, key=len)
    for path in here:
        if path[0] in given and _follow(data, path) is _ABSENT:
            return ".".join(path)
    for path in reversed(here):  # the longest first: a value that is null, or a member of a loop's element
        if path[0] not in given:
            return ".".join(path)
        if _follow(data, path) is None:
            return f"value for {'.'.join(path)}"
    return "member that this line asks for"


def _path(node: nodes.Node) -> tuple[int, tuple[str, ...]] | None:
    """Line and members of ``a.b["c"]``; None when a part is computed, or when it is written to."""
    members: list[str] = []
    line = node.lineno
    while True:
        if isinstance(node, nodes.Getattr):
            members.append(node.attr)
            node = node.node
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            members.append(node.arg.value)
            node = node.node
        elif isinstance(node, nodes.Name) and node.ctx == "load":
            return line, (node.name, *reversed(members))
        else:
            return None


def _follow(data: Any, path: tuple[str, ...]) -> Any:
    for member in path:
        if not isinstance(data, Mapping) or member not in data:
            return _ABSENT
        data = data[member]
    return data
