"""The public contract as files: ``python -m dev.contract_files schemas`` writes them.

Tests fail when they drift from the models, or when a change breaks a reader.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from dev import asyncapi, schemas


def files() -> dict[str, bytes]:
    """Name and content of each file of ``schemas/``."""
    documents = {f"{name}.json": schemas.schema_of(name) for name in schemas.RECORDS}
    return {name: as_file(found) for name, found in {**documents, "asyncapi.json": asyncapi.document()}.items()}


def as_file(document: dict[str, Any]) -> bytes:
    """JSON that people and version control can read."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def main(folder: Path) -> None:
    """Write every file that differs."""
    for name, content in files().items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
