"""The settings of every Kafka client, from the settings of mailstream."""

from typing import Any

from confluent_kafka.admin import AdminClient

from mailstream.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """What any confluent-kafka client needs to reach the brokers."""
    found: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password and settings.kafka_sasl_password.get_secret_value(),
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "ssl.certificate.location": settings.kafka_ssl_certificate_location,
        "ssl.key.location": settings.kafka_ssl_key_location,
        # a broker that comes back is found again within a second; the default backs off to ten
        "reconnect.backoff.max.ms": 1000,
        "log_level": 2,  # each lost connection would be a line on stderr, many a second; our own lines say what matters
    }
    return {key: value for key, value in found.items() if value is not None}


#: librdkafka 2.16.1 can crash (rdk:main, a null pointer) when an admin client is destroyed right after its answers came
#: from a cluster that is still making topics. So they live as long as the process; there are only a few of them.
_KEPT: list[AdminClient] = []


def admin(settings: Settings) -> AdminClient:
    """An admin client."""
    client = AdminClient(connection(settings))
    _KEPT.append(client)
    return client
