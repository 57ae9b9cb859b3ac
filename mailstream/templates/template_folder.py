"""A folder of templates on disk: which files there are, and which name, version and locale each belongs to."""

import re
from pathlib import Path

from mailstream.domain.errors import TemplateError
from mailstream.domain.topics import KIB

SUBJECT, TEXT, HTML, MJML = "subject.txt", "body.txt", "body.html", "body.mjml"
#: Data to preview and check a template with.
SAMPLE = "sample.json"
PARTS = (SUBJECT, TEXT, HTML, MJML, SAMPLE)
SHARED = "_shared"
MAX_FILE_BYTES = 512 * KIB

#: Name, version and locale to a folder.
Places = dict[str, dict[int, dict[str, str]]]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")


def read(folder: Path) -> tuple[dict[str, str], Places]:
    """Every file under the folder by its path, and the folder of each template. Raises TemplateError."""
    if not folder.is_dir():
        raise TemplateError(
            f"{folder} is not a folder. MAILSTREAM_TEMPLATES_DIR must name the folder of mail templates"
        )
    sources: dict[str, str] = {}
    places: Places = {}
    mistakes = []
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        parts = path.split("/")
        if file.is_dir() or any(part.startswith(".") for part in parts):
            continue
        if file.stat().st_size > MAX_FILE_BYTES:
            mistakes.append(f"{path}: larger than {MAX_FILE_BYTES:,} bytes")
            continue
        try:
            sources[path] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            mistakes.append(f"{path}: is not text in UTF-8")
        if parts[0] == SHARED or len(parts) == 1:  # a README beside the templates is welcome
            continue
        if (
            len(parts) != 4
            or not _NAME.fullmatch(parts[0])
            or not parts[1].isdecimal()
            or not _LOCALE.fullmatch(parts[2])
            or parts[3] not in PARTS
        ):
            mistakes.append(f"{path}: expected name/version/locale/ with one of {', '.join(PARTS)}")
            continue
        name, version, locale, _ = parts
        locales = places.setdefault(name, {}).setdefault(int(version), {})
        locales[locale.replace("_", "-").lower()] = f"{name}/{version}/{locale}"
    if mistakes:
        raise TemplateError("\n".join(mistakes))
    return sources, places
