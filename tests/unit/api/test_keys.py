"""A key is believed when its hash stands in the file, and by nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api import keys
from api.keys import DEV_KEY, Key, Keys, Scope, hash_of
from mailstream.domain.errors import WrongSettings
from mailstream.settings import Settings

SECRET = keys.new_secret()


def a_key(**members: Any) -> Key:
    plain = {"name": "shop", "sha256": hash_of(SECRET), "tenant": "shop", "scopes": [Scope.SEND]}
    return Key.model_validate(plain | members)


def test_only_the_whole_key_is_believed() -> None:
    callers = Keys((a_key(), a_key(name="other", sha256=hash_of("other"))))

    assert callers.find(SECRET.encode()) == a_key()
    for wrong in (b"", SECRET[:-1].encode(), SECRET.encode() + b"x", hash_of(SECRET).encode(), b"\x00", "é".encode()):
        assert callers.find(wrong) is None


def test_a_key_that_has_expired_is_none() -> None:
    now = datetime.now(UTC)

    assert Keys((a_key(expires_at=now - timedelta(seconds=1)),)).find(SECRET.encode()) is None
    assert Keys((a_key(expires_at=now + timedelta(hours=1)),)).find(SECRET.encode()) is not None


def test_a_key_may_do_what_is_named_and_admin_all() -> None:
    assert [scope for scope in Scope if a_key().has(scope)] == [Scope.SEND]
    assert all(a_key(scopes=[Scope.ADMIN]).has(scope) for scope in Scope)


def test_keys_are_long_and_never_the_same() -> None:
    made = {keys.new_secret() for _ in range(100)}

    assert len(made) == 100
    assert all(len(secret) >= 40 for secret in made)


def test_a_file_is_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    one = a_key(senders=("shop@example.com", "@example.org"), rate="100/second", quota=5)
    two = a_key(name="two", sha256=hash_of("two"))

    keys.add_to_file(file, one)
    keys.add_to_file(file, two)

    assert keys.read_file(file) == (one, two)
    assert SECRET not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("keys: [{name: a}]", "sha256", id="members missing"),
        pytest.param("keys: [{name: a, sha256: s3cret, tenant: a, scopes: [send]}]", "sha256", id="no hash"),
        pytest.param(f"keys: [{{name: a, sha256: {'a' * 64}, tenant: a, scopes: [all]}}]", "scopes", id="no such scope"),
        pytest.param(f"keys: [{{name: a, sha256: {'a' * 64}, tenant: a, scopes: []}}]", "scopes", id="no scope"),
        pytest.param(
            f"keys: [{{name: a, sha256: {'a' * 64}, tenant: a, scopes: [send], rate: fast}}]", "rate", id="no rate"
        ),
        pytest.param("keys: {", "not valid YAML", id="not valid YAML"),
        pytest.param("- 1", "dictionary", id="no mapping"),
        pytest.param("keys: [], more: 1", "not valid YAML", id="two things in a line"),
        pytest.param("more: 1", "more", id="an unknown member"),
        pytest.param(
            "keys:\n" + f"- {{name: a, sha256: {'a' * 64}, tenant: a, scopes: [send]}}\n" * 2, "same key", id="a key twice"
        ),
    ],
)  # fmt: skip
def test_a_file_with_mistakes_says_what_is_wrong_and_no_value(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)

    with pytest.raises(WrongSettings) as error:
        keys.read_file(file)

    assert told in str(error.value)
    assert "s3cret" not in str(error.value)


def test_without_a_file_nobody_could_call_and_nothing_starts() -> None:
    with pytest.raises(WrongSettings, match="MAILSTREAM_API_KEYS_FILE"):
        keys.load(Settings(_env_file=None))
    assert keys.load(Settings(_env_file=None, dev=True)) == (DEV_KEY,)


def test_the_development_key_is_there_in_development_only(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    keys.add_to_file(file, a_key())

    assert keys.load(Settings(_env_file=None, api_keys_file=str(file))) == (a_key(),)
    assert keys.load(Settings(_env_file=None, api_keys_file=str(file), dev=True)) == (a_key(), DEV_KEY)
