"""``.env.example`` lists every setting as it is."""

from pathlib import Path

import pytest

from dev import env_example
from mailstream.settings import PREFIX, Settings


def test_the_file_is_what_the_settings_say() -> None:
    assert env_example.FILE.read_text() == env_example.text(), "run `make generate`"


def test_uncommenting_everything_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = env_example.text().splitlines()
    set_lines = [line[1:] for line in lines if line.startswith(f"#{PREFIX}") and not line.endswith("=")]
    file = tmp_path / "all.env"
    file.write_text("\n".join(set_lines))

    assert Settings(_env_file=file) == Settings(_env_file=None)


def test_no_secret_has_a_value() -> None:
    secrets = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]

    assert len(secrets) >= 3
    for name in secrets:
        assert f"#{PREFIX}{name.upper()}=" in env_example.text().splitlines()
