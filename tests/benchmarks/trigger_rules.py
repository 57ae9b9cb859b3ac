"""How many domain events a second one core judges, and that 200 rules cost no more than 5.

Run it: python -m tests.benchmarks.trigger_rules. It prints the machine, the sizes and the figures; no Kafka, no disk.
"""

import json
import platform
import time
from collections.abc import Callable

from mailstream.templates.catalog import Rendered
from streams.triggers import decide, records
from streams.triggers import rules as rule_file
from streams.triggers.event import Received
from streams.triggers.rules import Rules
from tests.support.domain_events import NOW, WEEK, as_bytes, at_once, cloud_event, received, rendered

EVENTS = 20_000


def rules_of(count: int) -> Rules:
    """That many rules over ten topics; two of them read ``order.shipped`` in ``shop.orders``."""
    rules = [
        {
            "name": f"rule-{n}",
            "topic": "shop.orders" if n < 2 else f"topic-{n % 10}",
            "type": "order.shipped" if n < 2 else f"kind-{n}",
            "when": "data.parcel" if n == 0 else "data.nothing",
            "to": "data.customer",
            "template": "order-shipped",
            "data": {"order": "data.order", "name": "data.customer.name", "parcel": "data.parcel"},
        }
        for n in range(count)
    ]
    return rule_file.parse(json.dumps({"rules": rules}))


def rate_of(work: Callable[[], object]) -> float:
    """Calls per second of CPU, the best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        for _ in range(EVENTS):
            work()
        best = min(best, time.process_time() - begun)
    return EVENTS / best


def main() -> None:
    """Print the figures."""
    concerned, foreign = received(as_bytes(cloud_event())), received(as_bytes(cloud_event(type="order.packed")))

    def mailed(record: Received, rules: Rules, render: decide.Render = rendered) -> object:
        ruling = at_once(decide.decide(record, rules, render, now=NOW, max_age=WEEK))
        return records.outgoing(record, ruling, 16)

    mail = at_once(rendered("order-shipped", {"order": "1042", "name": "Ada", "parcel": "P-1"}, None))

    async def as_before(*_: object) -> Rendered:
        return mail

    size = len(concerned.value or b"")
    print(f"{platform.python_version()}, {platform.machine()}, event of {size} bytes; events per second of one core:")
    for count in (5, 200):
        rules = rules_of(count)
        print(
            f"{count:>4} rules: no rule reads its type {rate_of(lambda r=rules: mailed(foreign, r)):>9,.0f}"
            f" · to a record of a mail that is rendered already {rate_of(lambda r=rules: mailed(concerned, r, as_before)):>8,.0f}"
            f" · to a rendered record {rate_of(lambda r=rules: mailed(concerned, r)):>8,.0f}"
        )


if __name__ == "__main__":
    main()
