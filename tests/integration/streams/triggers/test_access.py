"""A right that is taken away from one topic of another service costs that topic, and only for as long as it lasts.

Under Faust the same ends the process: the reason why triggers have a reader of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)  # fmt: skip

from dev.kafka import find
from dev.kafka.node import FOR_TESTS, Node
from dev.ports import free_port
from mailstream.domain import topics
from mailstream.domain.errors import NoKafka
from mailstream.settings import Settings
from tests.support.broker import JARS
from tests.support.domain_events import as_bytes, cloud_event
from tests.support.eventually import eventually
from tests.support.system import some_settings, topics_of
from tests.support.trigger_bench import REMINDER, Bench, requests_in, rules_of

WITH_ACLS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "super.users": "",
}
OPERATIONS = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Settings]:
    """A system on a broker of its own that checks rights."""
    try:
        broker = find.start(Node(port=free_port(), extra={**FOR_TESTS, **WITH_ACLS}), tmp_path / "kafka", jars=JARS)
    except NoKafka as error:
        pytest.skip(str(error))
    try:
        settings = some_settings(broker.node.bootstrap)
        with topics_of(settings):
            yield settings
    finally:
        broker.close()


def right(topic: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission
    )


def give(admin: AdminClient, rights: list[AclBinding]) -> None:
    for done in admin.create_acls(rights).values():
        done.result(10)


def take_back(admin: AdminClient, binding: AclBinding) -> None:
    wanted = AclBindingFilter(
        binding.restype, binding.name, binding.resource_pattern_type, binding.principal, binding.host,
        binding.operation, binding.permission_type,
    )  # fmt: skip
    for done in admin.delete_acls([wanted]).values():
        done.result(10)


async def test_a_topic_that_may_not_be_read_any_more_is_reported_and_the_others_go_on(guarded: Settings) -> None:
    bench = Bench(guarded)
    bench.make_topic("shop.returns", 1)
    returns = bench.name("shop.returns")
    give(bench.admin, [right(returns, operation, AclPermissionType.ALLOW) for operation in OPERATIONS])
    denied = right(returns, AclOperation.READ, AclPermissionType.DENY)
    rules = rules_of(REMINDER, REMINDER | {"name": "returned", "topic": "shop.returns"})

    async with bench.reading(rules) as service:
        bench.say(as_bytes(cloud_event(type="order.placed")), topic="shop.returns")
        await bench.records(topics.REQUESTED, 1)

        give(bench.admin, [denied])
        await eventually(lambda: returns in service.unreadable, within_seconds=20, waiting_for="the report")
        bench.say(as_bytes(cloud_event(type="order.placed")))
        await bench.records(topics.REQUESTED, 2)

        take_back(bench.admin, denied)
        await eventually(lambda: not service.unreadable, within_seconds=20, waiting_for="the end of the report")
        bench.say(as_bytes(cloud_event(type="order.placed", id="later")), topic="shop.returns")
        found = requests_in(await bench.records(topics.REQUESTED, 3))

    keys = {request.idempotency_key for request in found}
    assert keys == {"1042/returned", "1042/reminder"}, "identity is the order: the later event is the same mail"
