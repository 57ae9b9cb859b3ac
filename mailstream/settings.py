"""Every setting with its unit and reason: the only reader of the environment.

One model for all sides: API, worker and commands agree on names, topics and the gap by reading the same thing.
"""

import os
import socket
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mailstream.domain.errors import WrongSettings

PREFIX = "MAILSTREAM_"
KafkaProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class Settings(BaseSettings):
    """Environment variables with the prefix ``MAILSTREAM_``; ``.env`` is read; secrets also from files."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Kafka
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="brokers, host:port, comma separated")
    kafka_security_protocol: KafkaProtocol = Field("PLAINTEXT", description="reaches all clients, Faust's too")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="with SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_username: str | None = Field(None, description="user name for SASL")
    kafka_sasl_password: SecretStr | None = Field(None, description="password for SASL; better from a file")
    kafka_ssl_ca_location: str | None = Field(None, description="file with the CA certificates of the brokers")
    kafka_ssl_certificate_location: str | None = Field(None, description="file with the client certificate")
    kafka_ssl_key_location: str | None = Field(None, description="file with the client key")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="put before every topic, group and application id"
    )
    partitions: int = Field(16, ge=1, le=1024, description="of every email topic; fixed for ever")
    replication_factor: int = Field(1, ge=1, le=10, description="of topics that are created; 3 in production")

    # Provider
    sendgrid_api_key: SecretStr | None = Field(None, description="never logged; needs mail.send only")
    sendgrid_url: str = Field("https://api.sendgrid.com", description="the EU host or the emulator can stand here")
    sendgrid_webhook_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="public keys (base64 SPKI) of the signed webhook, comma separated: several during a rotation"
    )
    sendgrid_webhook_max_age: float = Field(
        90_000, ge=60, le=2_592_000, description="seconds; an older post of the webhook is refused. It repeats for 24 h"
    )
    sender: str | None = Field(None, description="default from address; the worker does not start without it")
    senders_allowed: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="what callers may put as from beside SENDER, comma separated; @domain allows all of it"
    )

    # Sending
    send_gap: float = Field(2.0, ge=0, le=3600, description="seconds between the starts of two calls of the account")
    send_burst: int = Field(1, ge=1, le=10_000, description="tokens that may be saved up")
    recipient_gap: float = Field(0.0, ge=0, le=86_400, description="least seconds between two calls to one recipient")
    max_in_flight: int = Field(64, ge=1, le=10_000, description="provider calls at once, per worker")
    retry_delays: Annotated[tuple[float, ...], NoDecode] = Field(
        (30, 120, 600, 3600, 21_600), description="seconds before each retry, with jitter; FAILED when used up"
    )
    on_ambiguous: Literal["hold", "resend"] = Field("hold", description="what happens when an outcome stays unknown")
    hold_timeout: float = Field(900, ge=1, le=90_000, description="seconds that HELD waits for evidence")
    max_event_age: float = Field(604_800, ge=1, description="seconds; an older event or direct request sends nothing")
    status_retention: float = Field(
        2_592_000, ge=60, description="seconds that a final status is kept; then the owner writes a tombstone"
    )
    bodies_bytes: int = Field(67_108_864, ge=1_048_576, description="bytes of bodies that a worker keeps in memory")

    # API
    api_host: str = Field("127.0.0.1", description="address to listen on")
    api_port: int = Field(8000, ge=0, le=65_535, description="port to listen on")
    api_keys_file: str | None = Field(None, description="YAML with the callers; the API refuses to start without it")
    public_url: str | None = Field(
        None, pattern=r"^https?://[^\s<>]+$", description="where recipients reach the API: for unsubscribe links"
    )
    unsubscribe_key: SecretStr | None = Field(
        None, min_length=16, description="signs unsubscribe links; a new key breaks the links in mails that were sent"
    )
    dev: bool = Field(False, description="1: key `dev`, tenant `dev`, all scopes. Never in production")

    # Commands
    api_key: SecretStr | None = Field(None, description="key of `mailstream send` and `status`; `dev` with DEV=1")

    # Worker
    worker_id: str = Field(default_factory=socket.gethostname, description="shown in attempts; host name by default")
    worker_host: str = Field("127.0.0.1", description="address of probes and metrics")
    worker_port: int = Field(8001, ge=0, le=65_535, description="port of probes and metrics")
    session_timeout: float = Field(30, ge=1, le=300, description="seconds until a silent worker is replaced")
    static_membership: bool = Field(False, description="1: WORKER_ID is the group instance id")
    data_dir: str = Field(
        ".mailstream",
        description="scratch folder: for the statuses that a worker has no room for in memory, and for `mailstream dev`",
    )
    triggers_file: str | None = Field(None, description="YAML with the rules for domain events")
    templates_dir: str | None = Field(None, description="folder of mail templates")
    webhooks_file: str | None = Field(None, description="YAML with the endpoints that are told of status changes")
    schema_registry_url: str | None = Field(
        None, description="for domain events in Avro or Protobuf; needs the extra `registry`"
    )
    schema_registry_user: str | None = Field(None, description="user name for the schema registry")
    schema_registry_password: SecretStr | None = Field(None, description="password for the schema registry")
    dev_kafka_port: int = Field(9092, ge=1, le=65_535, description="where `mailstream dev` starts its Kafka")
    dev_sendgrid_port: int = Field(8025, ge=1, le=65_535, description="where `mailstream dev` starts its SendGrid")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    secrets_dir: str | None = Field(None, description="folder with one file per secret, named like the variable")

    @field_validator("sendgrid_webhook_keys", "senders_allowed", "retry_delays", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("retry_delays")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(delay <= 0 for delay in value):
            raise ValueError("each delay must be above 0 seconds")
        return value

    @model_validator(mode="after")
    def _kept_longer_than_repeats(self) -> Self:
        if self.status_retention < self.max_event_age:
            raise ValueError("STATUS_RETENTION must not be below MAX_EVENT_AGE: a forgotten mail could be sent again")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files before variables: a mounted secret wins over one that leaked into an environment."""
        return init_settings, file_secret_settings, env_settings, dotenv_settings


def load(**overrides: Any) -> Settings:
    """Read the settings. Raises WrongSettings with one line per mistake: name, what is wrong; never the value."""
    secrets_dir = os.environ.get(f"{PREFIX}SECRETS_DIR")
    try:
        return Settings(_secrets_dir=secrets_dir, **overrides)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(str(part) for part in mistake['loc']).upper() or 'settings'}: {mistake['msg']}"
            for mistake in error.errors(include_input=False, include_url=False)
        ]
        raise WrongSettings("\n".join(lines)) from None
