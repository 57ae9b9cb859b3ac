"""Follow what becomes of emails: python examples/follow_status.py BOOTSTRAP GROUP [TOPIC]. One line for each news."""

import json
import sys

from confluent_kafka import Consumer

bootstrap, group, topic = (*sys.argv[1:], "email.status")[:3]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
ranks: dict[str, int] = {}  # of the emails seen so far; a service keeps it beside what it knows of them
while True:
    message = consumer.poll(1.0)
    if message is None or message.error():
        continue
    if (value := message.value()) is None:  # a tombstone: the email is forgotten, 30 days after its end
        ranks.pop((message.key() or b"").decode(), None)
    elif (email := json.loads(value))["rank"] > ranks.get(email["id"], -1):  # else a repeat, or late
        ranks[email["id"]] = email["rank"]
        print(email["id"], email["status"], email.get("reference"), flush=True)
