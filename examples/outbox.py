"""A shop that never says what did not happen, and never forgets to say what did: an outbox beside its orders.

    python examples/outbox.py --database shop.db place --order 1042 --email grace@example.com
    python examples/outbox.py --database shop.db relay --bootstrap 127.0.0.1:9092

An order and its event are written in one transaction of the database. The relay publishes what stands in the outbox, in
order, and crosses it off when Kafka has it. When it dies between the two, the event is published again with the same
id: mailstream sends one mail. Nothing here knows of mail.
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer

TABLES = """
CREATE TABLE IF NOT EXISTS orders (number TEXT PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (place INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, event TEXT NOT NULL);
"""


class NotTaken(Exception):
    """Kafka did not take an event: it stays in the outbox."""


def opened(path: str) -> sqlite3.Connection:
    """The shop's database."""
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    return database


def place_order(database: sqlite3.Connection, number: str, email: str, name: str) -> None:
    """Take an order: the order and what is said about it, or neither."""
    customer = {"email": email, "name": name}
    event = {
        "specversion": "1.0",
        "id": f"{number}-shipped",  # it follows from what happened, so that it is the same each time it is said
        "source": "/shop",
        "type": "order.shipped",
        "time": datetime.now(UTC).isoformat(),
        "data": {"order": number, "parcel": f"P-{number}", "customer": customer},
    }
    with database:  # one transaction
        database.execute("INSERT INTO orders VALUES (?, ?, ?)", (number, email, name))
        database.execute("INSERT INTO outbox (key, event) VALUES (?, ?)", (number, json.dumps(event)))


def relay(
    database: sqlite3.Connection, producer: Producer, topic: str, *, published: Callable[[int], None] = lambda _: None
) -> int:
    """Publish the outbox in order. ``published`` is called when Kafka has an event that is not crossed off yet."""
    count = 0
    for place, key, event in database.execute("SELECT place, key, event FROM outbox ORDER BY place").fetchall():
        failures: list[KafkaError] = []

        def told(error: KafkaError | None, _: Message, failures: list[KafkaError] = failures) -> None:
            if error is not None:
                failures.append(error)

        headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json")]
        producer.produce(topic, event.encode(), key.encode(), headers=headers, on_delivery=told)
        producer.flush()
        if failures:
            raise NotTaken(failures[0].str())
        published(place)
        with database:
            database.execute("DELETE FROM outbox WHERE place = ?", (place,))
        count += 1
    return count


def main() -> int:
    """Exit 1 when Kafka does not take an event."""
    arguments = argparse.ArgumentParser(description="A shop with an outbox.")
    arguments.add_argument("--database", default="shop.db")
    verbs = arguments.add_subparsers(dest="verb", required=True)
    place = verbs.add_parser("place", help="take an order")
    place.add_argument("--order", required=True)
    place.add_argument("--email", required=True)
    place.add_argument("--name", default="Grace")
    relaying = verbs.add_parser("relay", help="publish what stands in the outbox")
    relaying.add_argument("--bootstrap", default="127.0.0.1:9092")
    relaying.add_argument("--topic", default="shop.orders")
    given = arguments.parse_args()
    database = opened(given.database)
    if given.verb == "place":
        place_order(database, given.order, given.email, given.name)
        return 0
    settings = {"bootstrap.servers": given.bootstrap, "acks": "all", "enable.idempotence": True}
    try:
        print(f"{relay(database, Producer({**settings, 'message.timeout.ms': 10_000}), given.topic)} events published")
    except NotTaken as error:
        print(f"The rest stays in the outbox: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
