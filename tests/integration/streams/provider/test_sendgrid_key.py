"""A new SendGrid key in its file is used; one that cannot be used changes nothing."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from mailstream import follow_file
from mailstream import settings as settings_of
from streams.provider import sendgrid_key
from streams.provider.sendgrid import SendGrid
from tests.support.eventually import eventually


async def test_a_key_that_cannot_be_used_leaves_the_old_one_and_the_next_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow_file, "LOOK_SECONDS", 0.01)
    monkeypatch.setenv("MAILSTREAM_SECRETS_DIR", str(tmp_path))
    file = tmp_path / "MAILSTREAM_SENDGRID_API_KEY"
    file.write_text("SG.old")
    settings = settings_of.load()
    provider = SendGrid("http://127.0.0.1:1", SecretStr("SG.old"), sender="noreply@example.com")
    asked: list[str] = []

    def use_key(key: SecretStr) -> None:
        asked.append(key.get_secret_value())
        provider.use_key(key)

    following = asyncio.create_task(sendgrid_key.follow(settings, use_key))
    await asyncio.sleep(0.05)
    file.write_text("SG.b\x01d")
    await eventually(lambda: asked == ["SG.b\x01d"], within_seconds=5, waiting_for="the bad key")
    assert not following.done()
    file.write_text("SG.new")
    await eventually(lambda: asked[1:] == ["SG.new"], within_seconds=5, waiting_for="the good key")

    following.cancel()
    await provider.close()
    told = capsys.readouterr().out
    assert "a changed file cannot be used" in told
    assert "SG." not in told
