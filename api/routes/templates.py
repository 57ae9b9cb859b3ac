"""Look at a mail before anybody else does; nothing is sent."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.auth import KEY, caller_of
from api.content import parse
from api.keys import Scope
from api.parts import parts_of
from api.plain_route import PlainRoute
from api.problems import responses
from api.route_docs import TEMPLATE, body_of
from api.schemas import PreviewAnswer, PreviewBody

router = APIRouter(tags=["templates"], route_class=PlainRoute)


@router.post(
    "/v1/templates/{name}/preview",
    response_model=PreviewAnswer,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 404, 413, 422, 429),
    openapi_extra=body_of(PreviewBody, required=False) | {"parameters": [TEMPLATE], "x-scope": Scope.SEND},
)
async def preview(request: Request) -> Response:
    """Render a template (`name`, or `name@version`) as accepting an email would; what is missing is named with its path."""
    caller_of(request, Scope.SEND)
    body = parse(PreviewBody, await request.body() or b"{}")
    mail = await parts_of(request).content.preview(request.path_params["name"], body.data, body.locale)
    answer = PreviewAnswer(subject=mail.subject, text=mail.text, html=mail.html)
    return Response(answer.model_dump_json(), media_type="application/json")
