import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.verbs import app
from mailstream.domain.errors import WrongRules
from tests.support.domain_events import EXAMPLES, as_bytes, cloud_event, shipped

FILES = ["--rules", str(EXAMPLES / "triggers.yaml"), "--templates", str(EXAMPLES / "templates")]
NOW = ["--now", "2026-11-24T10:00:00"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["triggers", *arguments])


def tried(tmp_path: Path, event: Any, *options: str) -> Result:
    file = tmp_path / "event.json"
    file.write_bytes(event if isinstance(event, bytes) else as_bytes(event))
    return run("test", str(file), *FILES, *NOW, *options)


def test_check_lists_the_rules_of_the_example() -> None:
    result = run("check", *FILES, "--json")

    assert result.exit_code == 0
    assert "order-shipped" in {rule["name"] for rule in json.loads(result.stdout)}


def test_check_tells_a_mistake_with_its_line(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(
        "rules:\n  - name: a\n    topic: t\n    type: x\n    to: y\n    template: order-shipped\n    lane: z\n"
    )

    result = run("check", "--rules", str(rules), "--templates", str(EXAMPLES / "templates"))

    assert isinstance(result.exception, WrongRules)
    assert "mine.yaml line 7: rules.0.lane" in str(result.exception)


def test_test_shows_the_mail_that_an_event_asks_for_and_no_address(tmp_path: Path) -> None:
    result = tried(tmp_path, cloud_event())

    assert result.exit_code == 0
    assert "order-shipped: em_" in result.stdout
    assert "Your order 1042 is on its way" in result.stdout
    assert "ada@example.com" not in result.stdout


def test_test_reads_a_binary_event(tmp_path: Path) -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/shop", "ce_type": "order.shipped"}
    options = [part for name, value in headers.items() for part in ("--header", f"{name}={value}")]

    mail = json.loads(tried(tmp_path, shipped(), *options, "--json").stdout)["rules"][0]["mails"][0]

    assert mail["subject"] == "Your order 1042 is on its way"


@pytest.mark.parametrize(
    ("event", "code", "told"),
    [
        (b"nope", 1, "dead letter BAD_EVENT"),
        (cloud_event(shipped(email="nobody")), 1, "dead letter BAD_ADDRESS"),
        (cloud_event(type="order.packed"), 0, "no rule reads this type"),
        (cloud_event(time="2020-01-01T00:00:00Z"), 0, "too old"),
    ],
)
def test_test_says_why_there_is_no_mail(tmp_path: Path, event: Any, code: int, told: str) -> None:
    result = tried(tmp_path, event)

    assert result.exit_code == code
    assert told in result.stdout


def test_without_rules_it_is_wrong_use() -> None:
    assert run("check").exit_code == 2


def test_test_tells_of_cap_and_digest(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(
        "rules: [{name: a, topic: t, type: x, to: data.to, template: comment, cap: {count: 2, per: 1d, key: all},\n"
        "  data: {author: data.a, title: data.a, text: data.a}, digest: {window: 15m, template: comments}}]"
    )
    event = tmp_path / "event.json"
    event.write_bytes(as_bytes(cloud_event({"to": "ada@example.com", "a": "b"}, type="x")))

    result = run("test", str(event), "--rules", str(rules), "--templates", str(EXAMPLES / "templates"), *NOW)

    assert result.exit_code == 0
    assert "a: suppressed if 2 of all were sent in the 86400 s before" in result.stdout
    assert "a: waits 900 s for others of a, which would become one comments" in result.stdout
