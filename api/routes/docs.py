"""The viewer of the OpenAPI document and a page for each problem: from the wheel, nothing from elsewhere."""

import html
from importlib.resources import files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse, Response

from api.problems import Code, Problem

router = APIRouter(include_in_schema=False)

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
}


@router.get("/docs")
async def viewer() -> Response:
    """Try the API in a browser."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="mailstream",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    page.headers.update(_PAGE_HEADERS)
    return page


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """What the viewer is made of."""
    if name not in _ASSETS:
        raise Problem(Code.NOT_FOUND, "The viewer has no such part.")
    path = str(files("fastapi_offline") / "static" / name)
    return FileResponse(path, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})


@router.get("/problems/{word}")
async def problem(word: str) -> Response:
    """What the ``type`` of a problem resolves to."""
    code = next((code for code in Code if code.word == word), None)
    if code is None:
        raise Problem(Code.NOT_FOUND, "This is not one of our problems.")
    title = html.escape(code.title)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p><code>{code.word}</code>, HTTP {code.status}</p></html>",
        headers=_PAGE_HEADERS,
    )
