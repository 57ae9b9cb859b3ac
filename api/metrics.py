"""Every metric of the API and what a rise means. Labels come from closed sets: no id, address or free text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One registry of each process, so that two APIs in one test do not share numbers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[str, int], Counter] = {}  # `labels` costs more than the count itself
        ProcessCollector(registry=registry)
        self.accept_seconds = Histogram(
            "mailstream_accept_seconds",
            "from a whole body to Kafka's acknowledgement; a rise: the brokers, or too many callers",
            buckets=_SECONDS,
            registry=registry,
        )
        self.answers = Counter(
            "mailstream_http_answers",
            "answers by route and status; a rise of 5xx: Kafka is away, or a bug",
            ("route", "status"),
            registry=registry,
        )
        self.webhook_posts = Counter(
            "mailstream_webhook_posts",
            "posts of the provider; a rise of refused: a wrong key, or a forger (each is repeated for 24 h)",
            ("result",),
            registry=registry,
        )
        self.view_lag_seconds = Gauge(
            "mailstream_view_lag_seconds",
            "age of the newest moment that the view is known to show; a rise: Kafka is away, or too much is written",
            registry=registry,
        )
        self.view_emails = Gauge("mailstream_view_emails", "statuses in the view: its memory", registry=registry)
        self.clock_error_seconds = Gauge(
            "mailstream_clock_error_seconds",
            "proven error of the wall clock against the brokers'; a rise: no NTP here, or there",
            registry=registry,
        )
        self.unread = Gauge(
            "mailstream_unread_requests",
            "accepted emails that no worker has read yet; a rise: no worker runs",
            registry=registry,
        )

    def answered(self, route: str, status: int) -> None:
        """Count an answer; 0 is a caller that went away."""
        if (child := self._children.get((route, status))) is None:
            child = self._children[route, status] = self.answers.labels(route, str(status))
        child.inc()

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
