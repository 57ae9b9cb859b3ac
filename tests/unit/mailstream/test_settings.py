"""Every mistake is one line with a name; files win over variables; a value is never repeated."""

from pathlib import Path

import pytest

from mailstream import settings
from mailstream.domain.errors import WrongSettings


@pytest.fixture(autouse=True)
def _no_dot_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mistakes_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """The lines that a start with these variables ends with."""
    for name, value in variables.items():
        monkeypatch.setenv(f"MAILSTREAM_{name}", value)
    with pytest.raises(WrongSettings) as refused:
        settings.load()
    return str(refused.value).splitlines()


def test_without_any_variable_everything_has_its_default() -> None:
    found = settings.load()

    assert found.send_gap == 2.0
    assert found.partitions == 16
    assert found.retry_delays == (30, 120, 600, 3600, 21_600)
    assert not found.dev


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("PARTITIONS", "many", "valid integer"),
        ("SEND_GAP", "-1", "greater than or equal to 0"),
        ("SEND_GAP", "nan", "less than or equal to 3600"),
        ("ON_AMBIGUOUS", "guess", "'hold' or 'resend'"),
        ("TOPIC_PREFIX", "a b", "pattern"),
        ("RETRY_DELAYS", "30,-1", "above 0"),
        ("RETRY_DELAYS", "30,soon", "valid number"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "'PLAINTEXT'"),
        ("API_PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_name_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    (line,) = mistakes_of(monkeypatch, **{name: value})

    assert line.startswith(f"MAILSTREAM_{name}")
    assert allowed in line


def test_each_mistake_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = mistakes_of(monkeypatch, PARTITIONS="0", SEND_GAP="-1", ON_AMBIGUOUS="guess")

    assert [line.partition(":")[0] for line in lines] == [
        "MAILSTREAM_PARTITIONS", "MAILSTREAM_SEND_GAP", "MAILSTREAM_ON_AMBIGUOUS",
    ]  # fmt: skip


def test_a_mistake_never_repeats_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = mistakes_of(monkeypatch, PARTITIONS="hunter2", KAFKA_SECURITY_PROTOCOL="hunter2", RETRY_DELAYS="hunter2")

    assert "hunter2" not in "\n".join(lines)


def test_a_status_must_outlive_the_repeats_that_it_guards_against(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = mistakes_of(monkeypatch, STATUS_RETENTION="60", MAX_EVENT_AGE="120")

    assert "STATUS_RETENTION" in line
    assert "MAX_EVENT_AGE" in line


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSTREAM_RETRY_DELAYS", "1, 2.5,60")
    monkeypatch.setenv("MAILSTREAM_SENDERS_ALLOWED", "shop@example.com, @example.org")

    found = settings.load()

    assert found.retry_delays == (1, 2.5, 60)
    assert found.senders_allowed == ("shop@example.com", "@example.org")


def test_a_secret_file_wins_over_variable_and_dot_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MAILSTREAM_SENDGRID_API_KEY").write_text("from-file\n")
    (tmp_path / ".env").write_text("MAILSTREAM_SENDGRID_API_KEY=from-dot-env\nMAILSTREAM_SENDER=env@example.com\n")
    monkeypatch.setenv("MAILSTREAM_SENDGRID_API_KEY", "from-variable")
    monkeypatch.setenv("MAILSTREAM_SECRETS_DIR", str(secrets))

    found = settings.load()

    assert found.sendgrid_api_key is not None
    assert found.sendgrid_api_key.get_secret_value() == "from-file"
    assert found.sender == "env@example.com"


def test_a_variable_wins_over_dot_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAILSTREAM_SEND_GAP=5\nMAILSTREAM_PARTITIONS=8\n")
    monkeypatch.setenv("MAILSTREAM_SEND_GAP", "3")

    found = settings.load()

    assert (found.send_gap, found.partitions) == (3, 8)


def test_a_variable_without_a_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSTREAM_KAFKA_SASL_MECHANISM", "")
    monkeypatch.setenv("MAILSTREAM_KAFKA_BOOTSTRAP", "")

    found = settings.load()

    assert found.kafka_sasl_mechanism is None
    assert "kafka_bootstrap" not in found.model_fields_set


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSTREAM_SENDGRID_API_KEY", "hunter2")
    monkeypatch.setenv("MAILSTREAM_KAFKA_SASL_PASSWORD", "hunter2")

    assert "hunter2" not in repr(settings.load())
