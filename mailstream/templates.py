"""Name, version, locale and data to a mail: subject, text and html.

A folder holds ``<name>/<version>/<locale>/`` with ``subject.txt``, ``body.txt`` and ``body.html`` or ``body.mjml``; one
body is enough. ``sample.json`` is data to preview it with.
The version is a number; a changed text is a new version beside the old one. ``_shared/`` holds what templates include.
Callers name a template and give data, they never send source (security.md S11). A printed value that is missing or
null is an error: a mail that says "Dear None" is worse than one that waits for a person.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import FunctionLoader, StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailstream import template_folder, template_html, template_paths
from mailstream.errors import TemplateError
from mailstream.mistakes import SUBJECT_BYTES, is_unsafe
from mailstream.template_folder import HTML, MJML, SAMPLE, SUBJECT, TEXT
from mailstream.topics import MIB

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
        self._sources = template_folder.read(self.folder)
        self._places = template_folder.places(self._sources)
        self._environment = ImmutableSandboxedEnvironment(
            loader=FunctionLoader(self._load),
            undefined=_Missing,
            autoescape=lambda name: name is not None and name.endswith((".html", ".mjml")),
            finalize=_printable,
            optimized=False,  # else constant expressions run while the folder is read, outside every limit
            auto_reload=False,
            cache_size=-1,
        )
        self._environment.globals.clear()  # no range() and no cycler(): data is all there is
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

    def has(self, name: str, version: int | str | None = None) -> bool:
        """Whether this template, in this version when one is named, can be rendered."""
        try:
            self._place(name, None, version)
        except TemplateError:
            return False
        return True

    def render(
        self, name: str, data: Mapping[str, Any], *, locale: str | None = None, version: int | str | None = None
    ) -> Rendered:
        """Render the newest version, or the named one (``welcome@2`` names it too), in the nearest locale.

        Raises TemplateError, which names template, line and the path of missing data, and never a value.
        """
        place = self._place(name, locale, version)
        _require_plain(data, "data", depth=0)
        room = [MAX_OUTPUT_BYTES]
        subject = self._part(f"{place}/{SUBJECT}", data, room).strip()
        _require_header(subject, place)
        text = self._part(file, data, room) if (file := f"{place}/{TEXT}") in self._sources else None
        html = self._html(place, data, room)
        if html is not None and text is None:
            text = template_html.to_text(html)
        return Rendered(subject, text, html)

    def _html(self, place: str, data: Mapping[str, Any], room: list[int]) -> str | None:
        file = next((file for part in (HTML, MJML) if (file := f"{place}/{part}") in self._sources), None)
        if file is None:
            return None
        html = self._part(file, data, room)
        try:
            html = template_html.with_inline_css(template_html.from_mjml(html) if file.endswith(MJML) else html)
        except TemplateError as error:
            raise TemplateError(f"{file}: {error}") from None
        if len(html.encode()) > MAX_OUTPUT_BYTES:
            raise TemplateError(f"{file}: the mail becomes larger than {MAX_OUTPUT_BYTES:,} bytes")
        if bad := template_html.forbidden_link(html):
            raise TemplateError(f"{file}: {bad}. Links may be https and mailto")
        return html

    def _place(self, name: str, locale: str | None, version: int | str | None) -> str:
        """The folder to render from: exact locale, its language, the default, or the only one there is."""
        name, _, named = name.partition("@")
        versions = self._places.get(name)
        if versions is None:
            raise TemplateError("there is no template of this name")
        asked = version or named or max(versions)
        locales = versions.get(int(asked)) if str(asked).isdecimal() else None
        if locales is None:
            raise TemplateError(f"template {name} has no such version; there are {sorted(versions)}")
        for candidate in (locale or "", (locale or "").replace("_", "-").partition("-")[0], DEFAULT_LOCALE):
            if found := locales.get(candidate.replace("_", "-").lower()):
                return found
        if len(locales) == 1:
            return next(iter(locales.values()))
        raise TemplateError(f"template {name} has neither the asked locale nor {DEFAULT_LOCALE}")

    def _part(self, file: str, data: Mapping[str, Any], room: list[int]) -> str:
        chunks = []
        try:
            for chunk in self._template(file).generate(dict(data)):
                room[0] -= len(chunk.encode())
                if room[0] < 0:
                    raise TemplateError(f"{file}: the mail becomes larger than {MAX_OUTPUT_BYTES:,} bytes")
                chunks.append(chunk)
        except TemplateError:
            raise
        except (UndefinedError, _NullPrinted) as error:
            where, line = template_paths.place_of(error, file, self._sources)
            source = self._sources[where]
            path = template_paths.missing_path(self._environment, source, line, data)
            raise TemplateError(f"{where} line {line}: data has no {path}") from None
        except RecursionError:
            raise TemplateError(f"{file}: templates include each other too deep") from None
        except Exception as error:  # a filter or operator that does not fit the data: its text may quote a value
            where, line = template_paths.place_of(error, file, self._sources)
            raise TemplateError(f"{where} line {line}: {type(error).__name__} with this data") from None
        return "".join(chunks)

    def _template(self, file: str) -> Template:
        return self._environment.get_template(file)

    def _load(self, file: str) -> tuple[str, str, None] | None:
        """Source and file name, by which an error finds its place again."""
        return (self._sources[file], file, None) if file in self._sources else None

    def sample(
        self, name: str, *, locale: str | None = None, version: int | str | None = None
    ) -> dict[str, Any] | None:
        """The sample data of a template, if it has some. Raises TemplateError."""
        file = f"{self._place(name, locale, version)}/{SAMPLE}"
        if file not in self._sources:
            return None
        try:
            return msgspec.json.decode(self._sources[file], type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise TemplateError(f"{file}: no JSON object ({error})") from None

    def _mistakes(self) -> Iterator[str]:
        for file in self._sources:
            if file.endswith(SAMPLE):
                continue
            try:
                self._template(file)
            except TemplateSyntaxError as error:
                yield f"{error.name} line {error.lineno}: {error.message}"
            except JinjaError as error:
                yield f"{file}: {error.message}"
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


class _Missing(StrictUndefined):
    """Fails when it is used, and says only that: Jinja's own text may quote data."""

    @property
    def _undefined_message(self) -> str:
        return "missing"


class _NullPrinted(Exception):
    """A null would have been printed."""


def _printable(value: object) -> object:
    if value is None:
        raise _NullPrinted
    return value


def _require_header(subject: str, place: str) -> None:
    if not subject:
        raise TemplateError(f"{place}/{SUBJECT}: the subject is empty")
    if is_unsafe(subject):
        raise TemplateError(f"{place}/{SUBJECT}: the subject has a line break or another control character")
    if len(subject.encode()) > SUBJECT_BYTES:
        raise TemplateError(f"{place}/{SUBJECT}: the subject is longer than {SUBJECT_BYTES} bytes")


def _require_plain(value: object, path: str, depth: int) -> None:
    """Only plain values reach the sandbox: no object has a method that could do something (security.md S11)."""
    if depth > 32:
        raise TemplateError(f"{path.split('.')[0]} is nested deeper than 32 levels")
    if value is None or type(value) in (str, int, float, bool):
        return
    deeper = partial(_require_plain, depth=depth + 1)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if type(key) is not str:
                raise TemplateError(f"{path} has a key that is no text")
            deeper(inner, f"{path}.{key}")
    elif type(value) in (list, tuple):
        for inner in value:  # type: ignore[attr-defined]  # mypy does not narrow by type()
            deeper(inner, f"{path}[]")
    else:
        raise TemplateError(f"{path} is no text, number, boolean, list or object")
