"""Which member of the data a template missed: found from the template's source, so that no value can appear in it."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, nodes

_ABSENT = object()


def place_of(error: Exception, file: str) -> tuple[str, int]:
    """File and line of the innermost template that was running when the error came."""
    found = file, 1
    step = error.__traceback__
    while step is not None:  # Jinja gives its frames the file name and the line numbers of the template
        frame = step.tb_frame
        if frame.f_code.co_filename == "<template>":
            found = str(frame.f_globals.get("name", file)), step.tb_lineno
        step = step.tb_next
    return found


def missing_path(environment: Environment, source: str, line: int, data: Mapping[str, Any]) -> str:
    """The written path on this line, like ``customer.name``, that leads nowhere in the data; for people."""
    tree = environment.parse(source)
    chains = [chain for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)) if (chain := _path(node))]
    here = sorted({(number, path) for number, path in chains if number == line}, key=lambda found: len(found[1]))
    for _, path in here:
        if _follow(data, path) is _ABSENT:
            return ".".join(path)
    for _, path in reversed(here):
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
