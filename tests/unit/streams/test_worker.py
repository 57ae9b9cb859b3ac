"""What a worker cannot do without is named before anything is joined or read."""

import pytest
from pydantic import SecretStr

from mailstream.kafka.kafka import Kafka
from mailstream.settings import Settings
from streams import worker

KEY, SENDER = SecretStr("SG.test"), "sender@example.com"


@pytest.mark.parametrize(
    ("key", "sender", "named"),
    [
        pytest.param(KEY, None, ["MAILSTREAM_SENDER"], id="no sender"),
        pytest.param(None, SENDER, ["MAILSTREAM_SENDGRID_API_KEY"], id="no key"),
        pytest.param(None, None, ["MAILSTREAM_SENDGRID_API_KEY", "MAILSTREAM_SENDER"], id="neither"),
    ],
)
def test_a_worker_without_key_or_sender_does_not_start_and_names_it(
    key: SecretStr | None, sender: str | None, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kafka, "require_topics", lambda *_: pytest.fail("it asked a broker"))
    settings = Settings(_env_file=None, sendgrid_api_key=key, sender=sender)

    with pytest.raises(SystemExit) as refusal:
        worker.run(settings)

    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == named
