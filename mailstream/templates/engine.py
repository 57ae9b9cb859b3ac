"""The libraries behind the templates: Jinja in its sandbox, MJML, CSS. Only where there are templates: 6 MB in memory."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailstream.domain.errors import TemplateError
from mailstream.templates import html as template_html
from mailstream.templates import template_paths
from mailstream.templates.template_folder import MJML, SAMPLE


class Engine:
    """Fills in files by their path; a mail may have ``most_bytes`` in all."""

    def __init__(self, sources: Mapping[str, str], most_bytes: int) -> None:
        self._sources, self._most_bytes = sources, most_bytes
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

    def mistakes(self) -> Iterator[str]:
        """One line for each file that is not a template."""
        for file in self._sources:
            if file.endswith(SAMPLE):
                continue
            try:
                self._environment.get_template(file)
            except TemplateSyntaxError as error:
                yield f"{error.name} line {error.lineno}: {error.message}"
            except JinjaError as error:
                yield f"{file}: {error.message}"

    def text(self, file: str, data: Mapping[str, Any], room: list[int]) -> str:
        """The file with the data in it; takes its size off the room. Raises TemplateError."""
        chunks = []
        try:
            for chunk in self._environment.get_template(file).generate(dict(data)):
                room[0] -= len(chunk.encode())
                if room[0] < 0:
                    raise self._too_large(file)
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

    def html(self, file: str, data: Mapping[str, Any], room: list[int]) -> str:
        """The same for html and MJML, as mail clients take it. Raises TemplateError."""
        html = self.text(file, data, room)
        try:
            html = template_html.with_inline_css(template_html.from_mjml(html) if file.endswith(MJML) else html)
        except TemplateError as error:
            raise TemplateError(f"{file}: {error}") from None
        if len(html.encode()) > self._most_bytes:
            raise self._too_large(file)
        if bad := template_html.forbidden_link(html):
            raise TemplateError(f"{file}: {bad}. Links may be https and mailto")
        return html

    def text_of(self, html: str) -> str:
        """The text form of an html body."""
        return template_html.to_text(html)

    def _too_large(self, file: str) -> TemplateError:
        return TemplateError(f"{file}: the mail becomes larger than {self._most_bytes:,} bytes")

    def _load(self, file: str) -> tuple[str, str, None] | None:
        """Source and file name, by which an error finds its place again."""
        return (self._sources[file], file, None) if file in self._sources else None


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
