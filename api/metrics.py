"""Every metric of the API and what a rise means."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from mailstream.metric_list import MetricList

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(MetricList):
    """One registry of each process, so that two APIs in one test do not share numbers."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self._children: dict[tuple[str, int], Counter] = {}  # `labels` costs more than the count itself
        ProcessCollector(registry=self.registry)
        self.accept_seconds = self.declare(
            Histogram,
            "mailstream_accept_seconds",
            "From a whole body to Kafka's acknowledgement. A rise: the brokers, or too many callers",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
        )
        self.answers = self.declare(
            Counter,
            "mailstream_http_answers",
            "Answers. A rise of 5xx: Kafka is away, or a bug",
            route="path of the route, or none",
            status="HTTP status; 0: the caller went away",
        )
        self.webhook_posts = self.declare(
            Counter,
            "mailstream_webhook_posts",
            "Posts of the provider. `refused` rises: a wrong key, or a forger (each is repeated for 24 h)",
            result=("taken", "late", "repeated", "refused"),
        )
        self.view_lag_seconds = self.declare(
            Gauge,
            "mailstream_view_lag_seconds",
            "Age of the newest moment that the view is known to show. A rise: Kafka is away, or too much is written",
        )
        self.view_emails = self.declare(Gauge, "mailstream_view_emails", "Statuses in the view: its memory")
        self.clock_error_seconds = self.declare(
            Gauge,
            "mailstream_clock_error_seconds",
            "Proven error of this machine's clock against the brokers'. A rise: no NTP here, or there",
        )
        self.unread = self.declare(
            Gauge,
            "mailstream_unread_requests",
            "Accepted emails that no worker has read yet. A rise: no worker runs",
        )

    def answered(self, route: str, status: int) -> None:
        """Count an answer; 0 is a caller that went away."""
        if (child := self._children.get((route, status))) is None:
            child = self._children[route, status] = self.answers.labels(route, str(status))
        child.inc()

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
