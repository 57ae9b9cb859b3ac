"""Routes whose endpoint takes the request and gives the response itself: FastAPI only documents them.

Its dependency solving and response checks cost more than the rest of such a request together (docs/api.md has the
figures); a test holds the OpenAPI document against what the routes really do.
"""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


class PlainRoute(APIRoute):
    """A route that calls its endpoint and does nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return cast(Callable[[Request], Coroutine[Any, Any, Response]], self.endpoint)
