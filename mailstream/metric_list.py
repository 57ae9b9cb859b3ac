"""How a metric is declared: once, with its name, its kind, its labels with all their values, and what a rise means."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)
#: All values of a label; or, as one text, what it names: a topic, a route. Never an id, an address or free text.
Label = Collection[str] | str


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the list."""

    name: str  #: as it is shown; a histogram's lines have more behind it
    kind: str  #: counter, gauge or histogram
    labels: dict[str, Label]
    meaning: str


class MetricList:
    """All metrics of one side: the worker's, or the API's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.metrics: list[Metric] = []

    def declare(self, kind: type[M], name: str, meaning: str, *, buckets: Collection[float] = (), **labels: Label) -> M:
        """Make a metric. Where all values are known each is shown from the start: no rise can be seen from nothing to 1."""
        options: dict[str, Any] = {"buckets": buckets} if buckets else {}
        metric = kind(name, meaning, tuple(labels), registry=self.registry, **options)
        self.metrics.append(Metric(name + "_total" * (kind is Counter), kind.__name__.lower(), labels, meaning))
        closed = [values for values in labels.values() if not isinstance(values, str)]
        if closed and len(closed) == len(labels):
            for values in product(*closed):
                metric.labels(*values)
        return metric
