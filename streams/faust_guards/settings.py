"""Faust's settings for a worker that neither loses mail nor wedges."""

import ssl
from typing import Any

import faust
from faust.stores import STORES
from faust.transport.drivers import TRANSPORTS

from mailstream.settings import Settings

SCHEME = "guarded"  #: of the transport, also an entry point of ``faust.transports`` in pyproject.toml
STORE = "statuses"  #: the same of the table's store, and of ``faust.stores``
REBALANCE_SECONDS = 60.0  #: longer than a drain
METADATA_MS = 5_000

# The entry points are found where the installed metadata is of this version. A checkout may be newer than what was
# installed, so the names are given here too.
TRANSPORTS.aliases[SCHEME] = "streams.faust_guards.transport:Transport"
STORES.aliases[STORE] = "streams.statuses.store:StatusStore"


def faust_settings(settings: Settings) -> dict[str, Any]:
    """What Faust is told."""
    chosen: dict[str, Any] = {
        "broker": [f"{SCHEME}://{broker.strip()}" for broker in settings.kafka_bootstrap.split(",")],
        "broker_credentials": credentials(settings),
        "store": f"{STORE}://",  # streams/statuses/store.py; nothing of it outlives the process
        "table_standby_replicas": 0,  # a standby in memory is thrown away at promotion
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "stream_wait_empty": False,  # its wait has no limit
        "consumer_auto_offset_reset": "earliest",
        # After a broker restart the leader may see no topics and assign nothing. It retries at the next metadata
        # refresh, by default after five minutes.
        "consumer_metadata_max_age_ms": METADATA_MS,
        "broker_commit_interval": 3600.0,  # commits are ours
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": settings.session_timeout / 10,
        "broker_rebalance_timeout": REBALANCE_SECONDS,
        "broker_request_timeout": max(60.0, settings.session_timeout),
        "broker_max_poll_interval": 2_592_000.0,  # 30 days: a paced worker must not leave its group, silently, for ever
        "broker_max_poll_records": 500,
        "stream_buffer_maxsize": 32,  # batches: each of one partition, at most 500 records and about a megabyte
        "producer_acks": -1,
        "producer_request_timeout": 30.0,
        "canonical_url": f"http://{settings.worker_id}.mailstream",  # stable, or a static member wedges on its return
    }
    if settings.static_membership:
        chosen["consumer_group_instance_id"] = settings.worker_id
    return chosen


def credentials(settings: Settings) -> Any:
    """Faust's form of the Kafka security settings; None for PLAINTEXT."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = None
    if settings.kafka_security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_location)
        if settings.kafka_ssl_certificate_location:
            context.load_cert_chain(settings.kafka_ssl_certificate_location, settings.kafka_ssl_key_location)
    if settings.kafka_security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    password = settings.kafka_sasl_password
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password else None,
        ssl_context=context,
    )
