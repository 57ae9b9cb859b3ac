"""``mailstream templates``: look at mail templates before they are used; nothing is sent."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli._options import Json, print_json
from mailstream.domain.errors import TemplateError
from mailstream.settings import load
from mailstream.templates.catalog import Rendered, Templates
from mailstream.templates.render_process import RenderProcess

group = typer.Typer(no_args_is_help=True, help="Mail templates; nothing here sends.")

Folder = Annotated[Path | None, typer.Option("--templates", help="folder; MAILSTREAM_TEMPLATES_DIR by default")]


class Part(StrEnum):
    """What of a mail is shown."""

    SUBJECT = "subject"
    TEXT = "text"
    HTML = "html"


@group.command()
def check(templates: Folder = None, as_json: Json = False) -> None:
    """Read every template and render it with its sample.json; exit 1 with one line per mistake."""
    found = Templates(_folder(templates))
    rows = asyncio.run(_checked(found))
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            told = row["mistake"] or ("fine" if row["sample"] else "can be read; no sample.json to render it with")
            typer.echo(f"{row['template']} {row['locale']}: {told}")
    raise typer.Exit(1 if any(row["mistake"] for row in rows) else 0)


@group.command()
def preview(
    name: Annotated[str, typer.Argument(help="template, or template@version")],
    data: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="JSON; its sample by default")] = None,
    locale: Annotated[str | None, typer.Option(help="as a rule or caller would ask for")] = None,
    part: Annotated[Part | None, typer.Option(help="print this part only, as it is")] = None,
    templates: Folder = None,
    as_json: Json = False,
) -> None:
    """Render a template and print the mail. Into a browser: --part html > mail.html."""
    found = Templates(_folder(templates))
    values = _values(data) if data else found.sample(name, locale=locale)
    if values is None:
        raise TemplateError(f"template {name} has no sample.json: name a file with --data")
    mail = asyncio.run(_rendered(found.folder, name, values, locale))
    parts = {Part.SUBJECT: mail.subject, Part.TEXT: mail.text, Part.HTML: mail.html}
    if as_json:
        print_json(parts)
    elif part is not None:
        typer.echo(parts[part] or "", nl=False)
    else:
        typer.echo("\n".join(f"--- {name_of}\n{content}" for name_of, content in parts.items() if content is not None))


async def _checked(templates: Templates) -> list[dict[str, Any]]:
    """Each template with what is wrong with it; rendered as the worker does, within its limits."""
    renderer, rows = RenderProcess(templates.folder), []
    for name, version, locale in templates.names():
        data, mistake, named = None, None, f"{name}@{version}"
        try:
            if (data := templates.sample(named, locale=locale)) is not None:
                await renderer.render(named, data, locale=locale)
        except TemplateError as error:
            mistake = str(error)
        rows.append({"template": named, "locale": locale, "sample": data is not None, "mistake": mistake})
    await renderer.close()
    return rows


async def _rendered(folder: Path, name: str, data: dict[str, Any], locale: str | None) -> Rendered:
    renderer = RenderProcess(folder)
    try:
        return await renderer.render(name, data, locale=locale)
    finally:
        await renderer.close()


def _values(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise TemplateError(f"{file}: no JSON object ({error})") from None


def _folder(given: Path | None) -> Path:
    folder = given or load().templates_dir
    if folder is None:
        raise typer.BadParameter("name the folder with --templates or MAILSTREAM_TEMPLATES_DIR")
    return Path(folder)
