"""Domain events in Avro or Protobuf, read by the schema that their first bytes name in a schema registry.

Confluent's wire format: a zero byte, four bytes of schema id, the content; for Protobuf the path of the message first.
Needs the extra ``registry``; without a registry in the settings every event is JSON.
"""

import asyncio
import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import msgspec
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro import parse_schema, schemaless_reader
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

from mailstream.domain.errors import RegistryAway
from mailstream.settings import Settings
from streams.triggers.event import BadEvent, Received

MAGIC = b"\x00"
PREFIX_BYTES = 5
#: Schemas that are kept ready; the registry's client keeps their texts.
MAX_SCHEMAS = 1000

Decoder = Callable[[bytes], Any]


class Schemas:
    """Reads content by its schema; asks the registry once for each."""

    def __init__(self, client: SchemaRegistryClient) -> None:
        self._client = client
        self._decoders: dict[int, Decoder] = {}

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.__exit__()  # type: ignore[no-untyped-call]  # it has no other way

    async def read(self, received: Received) -> Received:
        """The record with its content, where it needs a schema. Raises BadEvent, RegistryAway."""
        value = received.value
        return (
            received if value is None or value[:1] != MAGIC else replace(received, content=await self._content(value))
        )

    async def _content(self, value: bytes) -> Any:
        if len(value) < PREFIX_BYTES:
            raise BadEvent("the record is shorter than the prefix that names its schema")
        id_ = int.from_bytes(value[1:PREFIX_BYTES], "big")
        if (decode := self._decoders.get(id_)) is None:
            decode = await asyncio.to_thread(self._decoder, id_)
            if len(self._decoders) >= MAX_SCHEMAS:
                self._decoders.clear()
            self._decoders[id_] = decode
        return decode(value[PREFIX_BYTES:])

    def _decoder(self, id_: int) -> Decoder:
        try:
            schema = self._client.get_schema(id_, fmt="serialized")
            match schema.schema_type:
                case "AVRO":
                    return _avro(self._avro_schema(schema, {}))
                case "PROTOBUF":
                    return _protobuf(self._files(schema, "event.proto"))
                case _:
                    raise BadEvent("the schema of the record is neither Avro nor Protobuf")
        except BadEvent:
            raise
        except SchemaRegistryError as error:
            if error.http_status_code in (404, 422):
                raise BadEvent("the registry does not know the schema of the record") from None
            raise RegistryAway(f"the schema registry answers {error.http_status_code}") from None
        except (httpx2.HTTPError, OSError) as error:
            raise RegistryAway(f"the schema registry does not answer ({type(error).__name__})") from None
        except Exception as error:  # fastavro and protobuf have many
            raise BadEvent(f"the schema of the record cannot be used ({type(error).__name__})") from None

    def _avro_schema(self, schema: Schema, named: dict[str, Any]) -> Any:
        for reference in schema.references or ():
            self._avro_schema(self._referred(reference), named)
        return parse_schema(msgspec.json.decode(schema.schema_str or ""), named)

    def _referred(self, reference: SchemaReference) -> Schema:
        return self._client.get_version(reference.subject or "", reference.version or "latest", fmt="serialized").schema

    def _files(self, schema: Schema, name: str) -> list[descriptor_pb2.FileDescriptorProto]:
        """The file of a schema behind all that it imports."""
        files = []
        for reference in schema.references or ():
            files += self._files(self._referred(reference), reference.name or "")
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(schema.schema_str or ""))
        file.name = file.name or name
        return [*files, file]


def _avro(schema: Any) -> Decoder:
    def decode(content: bytes) -> Any:
        stream = io.BytesIO(content)
        try:
            found = schemaless_reader(stream, schema, None)
        except Exception:  # fastavro raises errors of many kinds
            raise BadEvent("the content does not fit its Avro schema") from None
        if stream.read(1):
            raise BadEvent("the content is longer than its Avro schema says")
        try:
            return msgspec.to_builtins(found, str_keys=True)  # times as RFC 3339, bytes as base64, decimals as text
        except (TypeError, ValueError, RecursionError):
            raise BadEvent("the content has a value that JSON cannot have") from None

    return decode


def _protobuf(files: list[descriptor_pb2.FileDescriptorProto]) -> Decoder:
    pool = descriptor_pool.DescriptorPool()
    known = descriptor_pool.Default()
    added: set[str] = set()

    def add(file: descriptor_pb2.FileDescriptorProto) -> None:
        for needed in file.dependency:
            if needed not in added:  # Google's own types are imported by name and stand in no registry
                found = descriptor_pb2.FileDescriptorProto()
                known.FindFileByName(needed).CopyToProto(found)
                add(found)
        if file.name not in added:
            pool.Add(file)
            added.add(file.name)

    for file in files:
        add(file)
    root = pool.FindFileByName(files[-1].name)

    def decode(content: bytes) -> Any:
        try:
            path, begin = _message_path(content)
            kinds = list(root.message_types_by_name.values())
            kind = kinds[path[0]]
            for index in path[1:]:
                kind = kind.nested_types[index]
            found = message_factory.GetMessageClass(kind).FromString(content[begin:])
            return json_format.MessageToDict(found, preserving_proto_field_name=True)
        except (message.DecodeError, json_format.SerializeToJsonError, IndexError, ValueError, TypeError):
            raise BadEvent("the content does not fit its Protobuf schema") from None

    return decode


def _message_path(content: bytes) -> tuple[list[int], int]:
    """Which message of the file it is, as indexes from the outside in, and where the message begins."""
    count, begin = _varint(content, 0)
    path = []
    for _ in range(count):
        index, begin = _varint(content, begin)
        path.append(index)
    return path or [0], begin


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint, of which only small ones that are not negative make sense here. Raises ValueError, IndexError."""
    number = shift = 0
    while True:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 28:
            raise ValueError
    if number & 1:
        raise ValueError
    return number >> 1, at


def connected(settings: Settings) -> Schemas:
    """The schemas of the registry that the settings name."""
    config: dict[str, Any] = {"url": settings.schema_registry_url, "timeout": 10, "max.retries": 0}  # we ask again
    if settings.schema_registry_user and settings.schema_registry_password:
        secret = settings.schema_registry_password.get_secret_value()
        config["basic.auth.user.info"] = f"{settings.schema_registry_user}:{secret}"
    return Schemas(SchemaRegistryClient.new_client(config))
