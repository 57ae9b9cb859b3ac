"""Write ``.env.example`` from the settings model: ``python -m dev.env_example`` (``make generate``)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from mailstream.settings import PREFIX, Settings

FILE = Path(__file__).parents[1] / ".env.example"
HEAD = """\
# Every setting of mailstream with its default. Copy this file to .env and uncomment what is to differ.
# Variables of the environment win over .env, and files in MAILSTREAM_SECRETS_DIR over both.
# Generated from mailstream/settings.py by `make generate`: change it there.
"""


def text() -> str:
    """The whole file."""
    return HEAD + "".join(f"\n{line}" for line in _lines()) + "\n"


def _lines() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield f"# {field.description}{_choices(field.annotation)}"
        yield f"#{PREFIX}{name.upper()}={_default(field)}"


def _choices(annotation: Any) -> str:
    """The words that a setting may be, when they are a closed list."""
    parts = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
    words = [word for part in parts if "Literal" in str(get_origin(part)) for word in get_args(part)]
    return f" ({', '.join(words)})" if words else ""


def _default(field: FieldInfo) -> str:
    """The default as one would write it; nothing for secrets, what is unset, and what the machine decides."""
    value = None if field.default_factory else field.default
    match value:
        case None | SecretStr():
            return ""
        case bool():
            return "1" if value else "0"
        case tuple():
            return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
        case float():
            return f"{value:g}" if value < 1e6 else f"{value:.0f}"
        case _:
            return str(value)


if __name__ == "__main__":
    FILE.write_text(text())
