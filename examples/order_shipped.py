"""Another service: a shop that publishes what happened, and knows nothing about mail.

    python examples/order_shipped.py --bootstrap 127.0.0.1:9092

It says `order.shipped` once, as a CloudEvent in `shop.orders`. The rule in triggers.yaml turns that into a mail. The
event goes to stdout; saying the same event again (`--event-id`) sends nothing a second time.
"""

import argparse
import json
import sys
import uuid
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer

SOURCE = "/shop"


def shipped(order: str, parcel: str, email: str, name: str, event_id: str) -> dict[str, object]:
    """The event: what happened to which order, and whom it concerns."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": "order.shipped",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"order": order, "parcel": parcel, "customer": {"email": email, "name": name}},
    }


def main() -> int:
    """Publish one event. Exit 1 when no broker takes it."""
    arguments = argparse.ArgumentParser(description="Say that an order has left the house.")
    arguments.add_argument("--bootstrap", default="127.0.0.1:9092")
    arguments.add_argument("--topic", default="shop.orders")
    arguments.add_argument("--order", default=f"{datetime.now(UTC):%y%m%d-%H%M%S}")
    arguments.add_argument("--parcel", default="P-4711")
    arguments.add_argument("--email", default="grace@example.com")
    arguments.add_argument("--name", default="Grace")
    arguments.add_argument("--event-id", default=str(uuid.uuid4()))
    given = arguments.parse_args()
    event = shipped(given.order, given.parcel, given.email, given.name, given.event_id)
    failures: list[KafkaError] = []

    def told(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": given.bootstrap, "acks": "all", "message.timeout.ms": 10_000})
    producer.produce(
        given.topic,
        json.dumps(event).encode(),
        key=given.order.encode(),
        headers=[("content-type", b"application/cloudevents+json")],
        on_delivery=told,
    )
    producer.flush()
    if failures:
        print(f"The event was not published: {failures[0].str()}", file=sys.stderr)
        return 1
    print(json.dumps(event))
    return 0


if __name__ == "__main__":
    sys.exit(main())
