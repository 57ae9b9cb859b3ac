"""What a route asks for in its signature, beside its scope: the body, the Idempotency-Key, the parts of the process."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Path
from pydantic import BaseModel
from starlette.requests import Request

from api.content import parse
from api.idempotency import key_of
from api.parts import AppState, parts_of


async def _parts(request: Request) -> AppState:
    return parts_of(request)


PartsDep = Annotated[AppState, Depends(_parts)]


@dataclass(frozen=True)
class JsonBody:
    """A body of this model; ``app.py`` puts it into the OpenAPI document.

    FastAPI reads a body only if its content type is JSON, and curl sends another one unless it is told; and it parses it
    into dicts first, for which "strict" means something else.
    """

    model: type[BaseModel]
    is_required: bool = True
    is_raw: bool = False  #: handed over as the bytes that came

    async def __call__(self, request: Request) -> Any:
        """Raises Problem 400, 422, and what a body that is too large or too slow is answered with."""
        raw = await request.body()
        return raw if self.is_raw else parse(self.model, raw if raw or self.is_required else b"{}")


async def _key(
    request: Request,
    _header: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable characters, quoted or bare: the same key and body give the first answer again",
            json_schema_extra={"pattern": '^("[ !#-\\[\\]-~]{1,255}"|[!#-~][!-~]{0,254})$'},
        ),
    ] = None,
) -> str | None:
    return key_of(request)


IdempotencyKey = Annotated[str | None, Depends(_key)]
EmailId = Annotated[str, Path(alias="id", examples=["em_1c2f9a3b_0192f0c1b2a37c4d8e5f60718293a4b5"])]
