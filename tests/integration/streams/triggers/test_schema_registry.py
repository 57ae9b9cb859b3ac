"""Events in Avro and Protobuf, written by Confluent's own serializers, read by the schema in a registry."""

import asyncio
import contextlib
import datetime as dt
import decimal
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mailstream.domain import topics
from mailstream.domain.errors import RegistryAway
from mailstream.settings import Settings
from streams.triggers.event import BadEvent
from streams.triggers.schema_registry import Schemas, connected
from tests.support.domain_events import received, shipped
from tests.support.trigger_bench import Bench, requests_in

VALUE = SerializationContext("shop.orders", MessageField.VALUE)
ORDER = {
    "type": "record", "name": "Order", "namespace": "shop",
    "fields": [
        {"name": "order", "type": "string"},
        {"name": "customer", "type": {"type": "record", "name": "Customer", "fields": [
            {"name": "email", "type": "string"}, {"name": "name", "type": ["null", "string"], "default": None}]}},
        {"name": "parcel", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "default": ""},
    ],
}  # fmt: skip
NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


def an_order() -> dict[str, Any]:
    return shipped(at=NOON, sum=decimal.Decimal("12.50"))


def proto_order() -> Any:
    """The class of a message of a file that imports one of Google's, with the order as its second message."""
    file = descriptor_pb2.FileDescriptorProto(
        name="order.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    file.message_type.add(name="Other").field.add(name="x", number=1, type=9, label=1)
    order = file.message_type.add(name="Order")
    customer = order.nested_type.add(name="Customer")
    for number, name in enumerate(("email", "name"), 1):
        customer.field.add(name=name, number=number, type=9, label=1)
    order.field.add(name="order", number=1, type=9, label=1)
    order.field.add(name="customer", number=2, type=11, label=1, type_name=".shop.Order.Customer")
    order.field.add(name="parcel", number=3, type=9, label=1)
    order.field.add(name="shipped_at", number=4, type=11, label=1, type_name=".google.protobuf.Timestamp")
    pool = descriptor_pool.DescriptorPool()
    google = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(google)
    pool.Add(google)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


@pytest.fixture
def client() -> SchemaRegistryClient:
    return SchemaRegistryClient.new_client({"url": "mock://registry"})


def avro(client: SchemaRegistryClient, value: dict[str, Any]) -> bytes:
    written = AvroSerializer(client, json.dumps(ORDER))(value, VALUE)
    assert isinstance(written, bytes)
    return written


async def test_avro_is_read_as_json_would_be(client: SchemaRegistryClient) -> None:
    record = await Schemas(client).read(received(avro(client, an_order())))

    assert record.json() == shipped(at="2026-11-24T12:00:00Z", sum="12.50")


async def test_protobuf_is_read_by_the_path_of_its_message(client: SchemaRegistryClient) -> None:
    kind = proto_order()
    order = kind(order="1042", customer={"email": "ada@example.com", "name": "Ada"}, parcel="P-1", shipped_at=NOON)
    value = ProtobufSerializer(kind, client, {"use.deprecated.format": False})(order, VALUE)

    record = await Schemas(client).read(received(value))

    assert record.json() == {**shipped(), "shipped_at": "2026-11-24T12:00:00Z"}


async def test_json_passes_untouched(client: SchemaRegistryClient) -> None:
    record = received(shipped())

    assert await Schemas(client).read(record) is record


@pytest.mark.parametrize(
    ("value", "told"),
    [(b"\x00\x00", "shorter than"), (b"\x00\x00\x00\x00\x63abc", "does not know the schema")],
)
async def test_what_names_no_schema_is_a_bad_event(client: SchemaRegistryClient, value: bytes, told: str) -> None:
    with pytest.raises(BadEvent, match=told):
        await Schemas(client).read(received(value))


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 60), st.booleans())
def test_broken_content_is_a_bad_event_and_nothing_else(
    client: SchemaRegistryClient, noise: bytes, at: int, is_avro: bool
) -> None:
    kind = proto_order()
    whole = (
        avro(client, an_order())
        if is_avro
        else ProtobufSerializer(kind, client, {"use.deprecated.format": False})(kind(order="1042", parcel="P-1"), VALUE)
    )
    assert whole is not None

    with contextlib.suppress(BadEvent):
        asyncio.run(Schemas(client).read(received(whole[: 5 + at] + noise)))


class Registry:
    """A registry that speaks the two calls of Confluent's that are needed."""

    def __init__(self) -> None:
        self.is_broken = False
        self.asked = 0
        self.runner = web.AppRunner(self._app())
        self.url = ""

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/schemas/ids/{id}", self._schema)
        return app

    async def _schema(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.is_broken:
            return web.json_response({"error_code": 50001, "message": "store"}, status=500)
        if request.match_info["id"] != "7":
            return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)
        return web.json_response({"schema": json.dumps(ORDER)})


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    registry = Registry()
    await registry.runner.setup()
    site = web.TCPSite(registry.runner, "127.0.0.1", 0)
    await site.start()
    registry.url = "http://{}:{}".format(*registry.runner.addresses[0][:2])
    yield registry
    await registry.runner.cleanup()


def as_schema_7(value: bytes) -> bytes:
    return value[:1] + (7).to_bytes(4, "big") + value[5:]


async def test_a_registry_is_asked_once_for_each_schema(client: SchemaRegistryClient, registry: Registry) -> None:
    value = as_schema_7(avro(client, an_order()))

    with contextlib.closing(connected(Settings(schema_registry_url=registry.url))) as schemas:
        for _ in range(5):
            assert (await schemas.read(received(value))).json()["order"] == "1042"

    assert registry.asked == 1


async def test_a_registry_that_is_away_is_no_fault_of_the_event(registry: Registry) -> None:
    registry.is_broken = True
    for url in (registry.url, "http://127.0.0.1:1"):
        with contextlib.closing(connected(Settings(schema_registry_url=url))) as schemas, pytest.raises(RegistryAway):
            await schemas.read(received(b"\x00\x00\x00\x00\x07x"))


async def test_avro_events_wait_for_the_registry_and_become_mail(
    settings: Settings, client: SchemaRegistryClient, registry: Registry
) -> None:
    bench = Bench(settings)
    registry.is_broken = True
    headers = {"ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/shop", "ce_type": b"order.shipped",
               "content-type": b"application/avro"}  # fmt: skip
    bench.say(as_schema_7(avro(client, an_order())), headers=headers)

    async with bench.reading(settings=settings.model_copy(update={"schema_registry_url": registry.url})) as service:
        while not service.is_waiting:
            await asyncio.sleep(0.05)
        registry.is_broken = False
        (request,) = requests_in(await bench.records(topics.REQUESTED, 1))

    assert request.reference == "1042"
