"""Look at a mail before it is sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from api.deps import JsonBody, PartsDep
from api.problems import responses
from api.schemas import Asked
from api.scopes import Sender

router = APIRouter(tags=["templates"])


class PreviewBody(Asked):
    """What to fill a template with."""

    data: dict[str, Any] = Field(default_factory=dict)
    locale: str | None = Field(None, max_length=35)


class PreviewAnswer(BaseModel):
    """The mail that a template gives; nothing is sent."""

    subject: str
    text: str | None
    html: str | None


@router.post("/v1/templates/{name}/preview", responses=responses(400, 401, 403, 404, 413, 422, 429))
async def preview(
    parts: PartsDep,
    _: Sender,
    name: Annotated[str, Path(examples=["order-shipped@1"])],
    body: Annotated[PreviewBody, Depends(JsonBody(PreviewBody, is_required=False))],
) -> PreviewAnswer:
    """Render a template (`name`, or `name@version`) as accepting an email would; what is missing is named with its path."""
    mail = await parts.content.preview(name, body.data, body.locale)
    return PreviewAnswer(subject=mail.subject, text=mail.text, html=mail.html)
