"""Name, version, locale and data to a mail: subject, text and html.

A folder holds ``<name>/<version>/<locale>/`` with ``subject.txt``, ``body.txt`` and ``body.html`` or ``body.mjml``; one
body is enough. ``sample.json`` is data to preview it with.
The version is a number; a changed text is a new version beside the old one. ``_shared/`` holds what templates include.
Callers name a template and give data, they never send source. A printed value that is missing or
null is an error: a mail that says "Dear None" is worse than one that waits for a person.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mailstream.domain.errors import TemplateError
from mailstream.domain.topics import MIB
from mailstream.domain.validation import SUBJECT_BYTES, is_unsafe
from mailstream.templates import template_folder
from mailstream.templates.template_folder import HTML, MJML, SAMPLE, SUBJECT, TEXT

DEFAULT_LOCALE = "en"
#: All that one mail may come to: text and html together still have to fit into a record.
MAX_OUTPUT_BYTES = MIB


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template gave. At least one of text and html is there."""

    subject: str
    text: str | None
    html: str | None


class Templates:
    """All templates of a folder, read once: rendering asks no disk. Read the folder again to see a change."""

    def __init__(self, folder: Path | str) -> None:
        """Raises TemplateError with one line per file that cannot be used."""
        self.folder = Path(folder)
        self._sources, self._places = template_folder.read(self.folder)
        # Jinja, MJML and CSS are 6 MB in memory: only where there are templates
        from mailstream.templates.engine import Engine

        self._engine = Engine(self._sources, most_bytes=MAX_OUTPUT_BYTES)
        if mistakes := list(self._mistakes()):
            raise TemplateError("\n".join(mistakes))

    def names(self) -> list[tuple[str, int, str]]:
        """Every (name, version, locale), sorted."""
        return sorted(
            (name, version, locale)
            for name, versions in self._places.items()
            for version, locales in versions.items()
            for locale in locales
        )

    def has(self, name: str) -> bool:
        """Whether this template, in this version when one is named, can be rendered."""
        try:
            self._place(name, None)
        except TemplateError:
            return False
        return True

    def render(self, name: str, data: Mapping[str, Any], *, locale: str | None = None) -> Rendered:
        """Render the newest version, or the named one (``welcome@2``), in the nearest locale. Data must be plain JSON.

        Raises TemplateError, which names template, line and the path of missing data, and never a value.
        """
        place = self._place(name, locale)
        room = [MAX_OUTPUT_BYTES]
        subject = self._engine.text(f"{place}/{SUBJECT}", data, room).strip()
        _require_header(subject, place)
        text = self._engine.text(file, data, room) if (file := f"{place}/{TEXT}") in self._sources else None
        file = next((file for part in (HTML, MJML) if (file := f"{place}/{part}") in self._sources), "")
        html = self._engine.html(file, data, room) if file else None
        if html is not None and text is None:
            text = self._engine.text_of(html)
        return Rendered(subject, text, html)

    def _place(self, name: str, locale: str | None) -> str:
        """The folder to render from: exact locale, its language, the default, or the only one there is."""
        name, _, named = name.partition("@")
        versions = self._places.get(name)
        if versions is None:
            raise TemplateError("there is no template of this name")
        asked = named or max(versions)
        locales = versions.get(int(asked)) if str(asked).isdecimal() else None
        if locales is None:
            raise TemplateError(f"template {name} has no such version; there are {sorted(versions)}")
        for candidate in (locale or "", (locale or "").replace("_", "-").partition("-")[0], DEFAULT_LOCALE):
            if found := locales.get(candidate.replace("_", "-").lower()):
                return found
        if len(locales) == 1:
            return next(iter(locales.values()))
        raise TemplateError(f"template {name} has neither the asked locale nor {DEFAULT_LOCALE}")

    def sample(self, name: str, *, locale: str | None = None) -> dict[str, Any] | None:
        """The sample data of a template, if it has some. Raises TemplateError."""
        file = f"{self._place(name, locale)}/{SAMPLE}"
        if file not in self._sources:
            return None
        try:
            return msgspec.json.decode(self._sources[file], type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise TemplateError(f"{file}: not a JSON object ({error})") from None

    def _mistakes(self) -> Iterator[str]:
        yield from self._engine.mistakes()
        for versions in self._places.values():
            for locales in versions.values():
                for place in locales.values():
                    if f"{place}/{SUBJECT}" not in self._sources:
                        yield f"{place}: {SUBJECT} is missing"
                    bodies = [body for body in (TEXT, HTML, MJML) if f"{place}/{body}" in self._sources]
                    if not bodies:
                        yield f"{place}: {TEXT}, {HTML} or {MJML} is needed"
                    if HTML in bodies and MJML in bodies:
                        yield f"{place}: {HTML} and {MJML} exclude each other"


def _require_header(subject: str, place: str) -> None:
    if not subject:
        raise TemplateError(f"{place}/{SUBJECT}: the subject is empty")
    if is_unsafe(subject):
        raise TemplateError(f"{place}/{SUBJECT}: the subject has a line break or another control character")
    if len(subject.encode()) > SUBJECT_BYTES:
        raise TemplateError(f"{place}/{SUBJECT}: the subject is longer than {SUBJECT_BYTES} bytes")
