"""Probes and metrics: open to all, without data."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from api.deps import PartsDep
from api.metrics import MEDIA_TYPE

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=dict[str, str])
async def alive() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=dict[str, str],
    responses={503: {"description": "The view is loading"}},
)
async def ready(parts: PartsDep) -> Response:
    """The process may get requests: the view is loaded and follows the log."""
    lookup = parts.lookup
    if not lookup.is_loaded:
        return JSONResponse({"status": "loading", "emails": str(len(lookup.view))}, 503)
    return JSONResponse({"status": "ok", "view_age_seconds": f"{lookup.age_seconds():.1f}"})


@router.get("/metrics", response_class=Response)
async def metrics(parts: PartsDep) -> Response:
    """What Prometheus reads."""
    return Response(parts.metrics.text(), media_type=MEDIA_TYPE)
