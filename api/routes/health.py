"""Probes and metrics: open to all, without data."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.metrics import MEDIA_TYPE
from api.parts import parts_of
from api.route_docs import PUBLIC

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=dict[str, str], openapi_extra={"x-scope": PUBLIC})
async def alive() -> dict[str, str]:
    """The process lives. Asks nobody."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=dict[str, str],
    responses={503: {"description": "The view is loading"}},
    openapi_extra={"x-scope": PUBLIC},
)
async def ready(request: Request) -> Response:
    """The process may get requests: the view is loaded and follows the log."""
    lookup = parts_of(request).lookup
    if not lookup.is_loaded:
        return JSONResponse({"status": "loading", "emails": str(len(lookup.view))}, 503)
    return JSONResponse({"status": "ok", "view_age_seconds": f"{lookup.age_seconds():.1f}"})


@router.get("/metrics", response_class=Response, openapi_extra={"x-scope": PUBLIC})
async def metrics(request: Request) -> Response:
    """What Prometheus reads."""
    return Response(parts_of(request).metrics.text(), media_type=MEDIA_TYPE)
