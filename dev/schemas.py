"""JSON Schema of every record on Kafka, from the models."""

import inspect
import re
from datetime import datetime
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from mailstream.domain.attempt import ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import Batch, Control, EmailRequest
from mailstream.domain.status import EmailStatus
from mailstream.domain.suppression import Suppression

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Each record of the contract, by name and version, with the shapes that it may have.
RECORDS: dict[str, tuple[type[Struct], ...]] = {
    "email.requested.v1": (EmailRequest, Control, Batch),
    "email.attempts.v1": (ClaimRecord, OutcomeRecord, ReleasedRecord, HeldRecord),
    "email.status.v1": (EmailStatus,),
    "email.events.v1": (ProviderEvent,),
    "email.suppressions.v1": (Suppression,),
}
#: ``#: words`` behind or above a member in its class.
_MEMBER = re.compile(r"^    (\w+): .*?#: (.+)$", re.MULTILINE)


def schema_of(name: str) -> dict[str, Any]:
    """The schema of one record, whole: it refers to nothing outside itself."""
    shapes = RECORDS[name]
    parts = parts_of(shapes, "#/$defs/")
    refs = [{"$ref": f"#/$defs/{kind.__name__}"} for kind in shapes]
    head = {"$schema": DIALECT, "$id": f"urn:mailstream:{name}", "title": name}
    return head | (refs[0] if len(refs) == 1 else {"anyOf": refs}) | {"$defs": parts}


def parts_of(shapes: tuple[type[Struct], ...], place: str) -> dict[str, Any]:
    """The schema of each shape and of all that it has inside, by name; they refer to each other under ``place``."""
    _, parts = msgspec.json.schema_components(shapes, ref_template=place + "{name}")
    for kind in _structs(shapes):
        _describe(parts[kind.__name__], kind)
    return dict(sorted(parts.items()))


def _describe(part: dict[str, Any], kind: type[Struct]) -> None:
    """Say what the class says in its source: a member's comment, and that a text is a time."""
    part["description"] = inspect.cleandoc(part["description"])
    comments = _comments(kind)
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        member = part["properties"][field.encode_name]
        if comment := comments.get(field.name):
            member["description"] = comment
        hint = hints[field.name]
        if hint is datetime or datetime in get_args(hint):
            for choice in member.get("anyOf", [member]):
                if choice.get("type") == "string":
                    choice["format"] = "date-time"


@cache
def _comments(kind: type[Struct]) -> dict[str, str]:
    inherited = _comments(kind.__base__) if kind.__base__ and kind.__base__ is not Struct else {}
    return inherited | dict(_MEMBER.findall(inspect.getsource(kind)))


def _structs(shapes: tuple[type[Struct], ...]) -> set[type[Struct]]:
    """The shapes and every struct inside them."""
    found: set[type[Struct]] = set()
    left: list[Any] = list(shapes)
    while left:
        kind = left.pop()
        if isinstance(kind, type) and issubclass(kind, Struct):
            if kind not in found:
                found.add(kind)
                left += get_type_hints(kind).values()
        else:
            left += get_args(kind)
    return found
