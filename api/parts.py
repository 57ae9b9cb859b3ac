"""What every route works with, put together once in ``app.py``."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from api.content import Content
from api.keys import Keys
from api.lookup import Lookup
from api.metrics import Metrics
from api.submit import Submit
from mailstream.clock import Clock
from mailstream.log.publish import Publisher
from mailstream.settings import Settings


@dataclass(slots=True)
class Parts:
    """The parts of one API process."""

    settings: Settings
    clock: Clock
    keys: Keys
    content: Content
    submit: Submit
    lookup: Lookup
    publisher: Publisher
    metrics: Metrics
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  #: set when open streams must end


def parts_of(request: Request) -> Parts:
    """The parts of the process that serves this request."""
    parts = request.scope["mailstream.parts"]
    assert isinstance(parts, Parts)
    return parts
