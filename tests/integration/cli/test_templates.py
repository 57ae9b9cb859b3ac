import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.verbs import app
from mailstream.domain.errors import TemplateError
from tests.support.domain_events import TEMPLATES

run = CliRunner().invoke


def folder_with(tmp_path: Path, **files: str) -> Path:
    place = tmp_path / "welcome" / "1" / "en"
    place.mkdir(parents=True)
    for name, content in {"subject.txt": "Hi {{ name }}", "body.txt": "x", **files}.items():
        (place / name).write_text(content)
    return tmp_path


def test_the_examples_are_fine() -> None:
    result = run(app, ["templates", "check", "--templates", str(TEMPLATES), "--json"])

    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert rows
    assert all(row["mistake"] is None and row["sample"] for row in rows)


def test_a_sample_that_does_not_fit_fails_the_check(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"sample.json": "{}"})

    result = run(app, ["templates", "check", "--templates", str(folder)])

    assert result.exit_code == 1
    assert "welcome@1 en: welcome/1/en/subject.txt line 1: data has no name" in result.stdout


def test_a_template_without_sample_is_said_to_be_unproven(tmp_path: Path) -> None:
    result = run(app, ["templates", "check", "--templates", str(folder_with(tmp_path))])

    assert result.exit_code == 0
    assert "no sample.json" in result.stdout


def test_a_preview_shows_the_mail_of_the_sample_or_of_other_data(tmp_path: Path) -> None:
    command = ["templates", "preview", "order-shipped", "--templates", str(TEMPLATES)]
    data = tmp_path / "data.json"
    data.write_text('{"name": "Bob", "order": "7", "parcel": "P-7"}')

    assert "Your order 1042 is on its way" in run(app, command).stdout
    assert json.loads(run(app, [*command, "--data", str(data), "--json"]).stdout)["subject"] == (
        "Your order 7 is on its way"
    )
    assert run(app, [*command, "--part", "html"]).stdout.startswith("<!doctype html>")


def test_a_preview_without_data_says_what_to_do(tmp_path: Path) -> None:
    result = run(app, ["templates", "preview", "welcome", "--templates", str(folder_with(tmp_path))])

    assert isinstance(result.exception, TemplateError)
    assert "--data" in str(result.exception)


@pytest.mark.parametrize("verb", [["check"], ["preview", "x"]])
def test_without_a_folder_it_is_wrong_use(verb: list[str]) -> None:
    assert run(app, ["templates", *verb]).exit_code == 2
