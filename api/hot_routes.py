"""The few routes that are called past FastAPI's middleware, routing and dependencies.

Those cost twice as much as the rest of such a request. A hot route stands in the FastAPI application all the same, with
the same endpoint: there it is documented, and there it would work too.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

Endpoint = Callable[[Request], Awaitable[Response]]


class HotRoutes:
    """Routes by method and path, with at most one path parameter, at the end."""

    def __init__(self, router: APIRouter, paths: Iterable[tuple[str, str]]) -> None:
        """``paths``: method and path of routes that take a request and give a response (``PlainRoute``)."""
        self._whole: dict[tuple[str, str], APIRoute] = {}
        self._stems: dict[tuple[str, str], tuple[str, APIRoute]] = {}
        routes = {
            (method, route.path): route
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        for method, path in paths:
            stem, brace, name = path.partition("{")
            if brace:
                self._stems[method, stem] = name.removesuffix("}"), routes[method, path]
            else:
                self._whole[method, path] = routes[method, path]

    def find(self, scope: Scope) -> Endpoint | None:
        """The endpoint of a request, after filling in what the router would have."""
        method, path = scope["method"], scope["path"]
        if (route := self._whole.get((method, path))) is not None:
            scope["route"], scope["path_params"] = route, {}
            return cast(Endpoint, route.endpoint)
        at = path.rfind("/") + 1
        if at < len(path) and (found := self._stems.get((method, path[:at]))) is not None:
            name, route = found
            scope["route"], scope["path_params"] = route, {name: path[at:]}
            return cast(Endpoint, route.endpoint)
        return None
