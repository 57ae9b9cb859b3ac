"""What every route works with, put together once in ``app.py``."""

from dataclasses import dataclass, field

from starlette.requests import Request

from api.content import Content
from api.inbound.webhook import Webhook
from api.keys import Keys
from api.metrics import Metrics
from api.rate_limits import Rates
from api.sse import Streams
from api.submit import Submit
from api.suppressions import Suppressions
from api.view.bodies import Bodies
from api.view.listing import Listing
from api.view.lookup import Lookup
from api.view.queue import QueueView
from mailstream.domain.unsubscribe import Unsubscribe
from mailstream.kafka.broker_clock import BrokersClock
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings


@dataclass(slots=True)
class AppState:
    """The parts of one API process."""

    settings: Settings
    clock: BrokersClock
    metrics: Metrics
    keys: Keys
    rates: Rates
    content: Content
    lookup: Lookup
    listing: Listing
    queue: QueueView
    bodies: Bodies
    publisher: Publisher
    submit: Submit
    webhook: Webhook
    suppressions: Suppressions
    unsubscribe: Unsubscribe
    streams: Streams = field(default_factory=Streams)

    def stop_waiting(self) -> None:
        """Let go of open streams and of all who wait: the process stops."""
        self.lookup.stop_waiting()
        self.streams.close()


def parts_of(request: Request) -> AppState:
    """The parts of the process that serves this request."""
    parts = request.scope["mailstream.parts"]
    assert isinstance(parts, AppState)
    return parts
