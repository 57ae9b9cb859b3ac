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


def admin(settings: Settings) -> AdminClient:
    """An admin client."""
    return AdminClient(connection(settings))
