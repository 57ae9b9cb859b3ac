"""The topics as an AsyncAPI 3 document: who writes what, under which key, in which shape."""

from typing import Any, NamedTuple

from msgspec import Struct

from dev.schemas import RECORDS, parts_of
from mailstream.domain import codec, topics
from mailstream.domain.dead_letter import Reason
from mailstream.domain.topics import Topic

VERSION = "3.1.0"
_TEXT = {"type": "string"}


class _Channel(NamedTuple):
    topic: Topic
    key: str
    about: str
    is_written_by_others: bool = False


_CHANNELS: tuple[_Channel, ...] = (
    _Channel(
        topics.REQUESTED,
        "The recipient's address in canonical form (NFC, lower case, domain as A-label); of a control record the email id.",
        "What callers ask for: emails, and words about them. Kafka's default partitioner (murmur2 of the key).",
        is_written_by_others=True,
    ),
    _Channel(topics.ATTEMPTS, "The email id.", "What was done towards the provider, in log order; never compacted."),
    _Channel(
        topics.STATUS,
        "The email id.",
        "Where each email stands, with its timeline; no body, no address. Compacted: the highest rank of an id stands.",
    ),
    _Channel(topics.EVENTS, "The recipient's address in canonical form.", "Facts from the provider's signed webhook."),
    _Channel(topics.SUPPRESSIONS, "sha256 of tenant and address, in hex.", "Addresses that get no mail. Compacted."),
    _Channel(
        topics.REJECTED, "As received.", "Dead letters: the bytes as they came; the headers say from where and why."
    ),
)


def document(partitions: int = 16, version: str = "1.0.0") -> dict[str, Any]:
    """The whole document. ``partitions``: of every topic, as the settings say."""
    shapes = tuple(kind for kinds in RECORDS.values() for kind in kinds)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "mailstream on Kafka",
            "version": version,
            "description": "An event-stream mail sender. Names stand without TOPIC_PREFIX. Members may be added to a "
            "record at any time; a change that breaks a reader is a new version beside the old one.",
        },
        "defaultContentType": "application/json",
        "channels": {channel.topic.name: _channel(channel, partitions) for channel in _CHANNELS},
        "operations": dict(_operation(channel) for channel in _CHANNELS),
        "components": {
            "messages": {kind.__name__: _message(name, kind) for name, kinds in RECORDS.items() for kind in kinds}
            | {"DeadLetter": _dead_letter()},
            "schemas": parts_of(shapes, "#/components/schemas/"),
        },
    }


def _channel(channel: _Channel, partitions: int) -> dict[str, Any]:
    names = _messages(channel.topic)
    config = dict(channel.topic.config)
    kept = {"retention.ms": int(config["retention.ms"])} if "retention.ms" in config else {}
    return {
        "address": channel.topic.name,
        "description": channel.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "partitions": partitions,
                "topicConfiguration": {"cleanup.policy": [channel.topic.cleanup_policy], **kept},
                "bindingVersion": "0.5.0",
            }
        },
        "x-key": channel.key,
    }


def _operation(channel: _Channel) -> tuple[str, dict[str, Any]]:
    name, action = channel.topic.name, "receive" if channel.is_written_by_others else "send"
    return f"{action}-{name}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": channel.about,
        "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in _messages(channel.topic)],
    }


def _messages(topic: Topic) -> list[str]:
    return [kind.__name__ for kind in RECORDS.get(f"{topic.name}.v1", ())] or ["DeadLetter"]


def _message(name: str, kind: type[Struct]) -> dict[str, Any]:
    key = next(channel.key for channel in _CHANNELS if f"{channel.topic.name}.v1" == name)
    headers = {
        codec.RECORD_HEADER: {"type": "string", "const": name},
        "content-type": {"type": "string", "const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C trace context, where there is one"},
    }
    return {
        "name": kind.__name__,
        "title": (kind.__doc__ or "").splitlines()[0].replace("``", ""),
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers},
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def _dead_letter() -> dict[str, Any]:
    numbers = {"type": "string", "pattern": r"^-?\d+$"}
    headers: dict[str, Any] = {
        "dlt-original-topic": _TEXT,
        "dlt-original-partition": numbers,
        "dlt-original-offset": numbers,
        "dlt-original-timestamp": numbers,
        "mailstream-reason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "mailstream-detail": {"type": "string", "description": "for people; repeats no value of the record"},
    }
    optional = {"mailstream-truncated": {**numbers, "description": "size of a record too large to be kept whole"}}
    return {
        "name": "DeadLetter",
        "title": "A record that we cannot take: its bytes, headers and key as they came.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": headers | optional, "required": list(headers)},
        "payload": {"description": "any bytes"},
        "bindings": {"kafka": {"bindingVersion": "0.5.0"}},
    }
