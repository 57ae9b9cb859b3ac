import base64
from pathlib import Path

import pytest

from mailstream.domain.errors import WrongEndpoints
from mailstream.domain.status import Status
from mailstream.settings import Settings
from streams.webhooks import endpoints

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
GOOD = """
endpoints:
  - name: crm
    url: https://crm.example.com/hooks?x=1
    secrets: [crm]
    tenant: shop
"""


def settings(tmp_path: Path, text: str = GOOD, *, secret: str = SECRET, dev: bool = False) -> Settings:
    (tmp_path / "crm").write_text(secret + "\n")
    file = tmp_path / "webhooks.yaml"
    file.write_text(text)
    return Settings(webhooks_file=str(file), secrets_dir=str(tmp_path), dev=dev)


def test_an_endpoint_is_told_of_final_statuses_unless_it_names_others(tmp_path: Path) -> None:
    ((plain, keys),) = endpoints.load(settings(tmp_path))
    ((picky, _),) = endpoints.load(settings(tmp_path, GOOD + "    statuses: [QUEUED, SENT]\n"))

    assert Status.SENT in plain.statuses
    assert Status.QUEUED not in plain.statuses
    assert picky.statuses == {Status.QUEUED, Status.SENT}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("https://crm", "http://crm", "crm: its url must begin with https://"),
        ("https://crm.example.com", "https://", "must name a host"),
        ("https://crm", "https://user:pw@crm", "and no user"),
        ("https://crm", "file:///etc/passwd#", "must begin with https"),
        ("https://crm.example.com", "https://crm.example.com:99999", "cannot be read"),
        ("secrets: [crm]", "secrets: [nothing]", "crm: the secret nothing is missing"),
        ("secrets: [crm]", "secrets: [../crm]", "without a folder"),
        ("secrets: [crm]", "secrets: []", "webhooks.yaml: endpoints.0.secrets"),
        ("name: crm", "name: CRM!", "webhooks.yaml: endpoints.0.name"),
        ("tenant: shop", "tenant: shop\n    statuses: [LOST]", "webhooks.yaml: endpoints.0.statuses"),
        ("tenant: shop", "tenant: shop\n    retries: 3", "endpoints.0.retries: Extra inputs"),
        (GOOD, "[", "not valid YAML"),
        (GOOD, "", "the file"),
        (GOOD, GOOD + GOOD.split("endpoints:")[1], "crm: two endpoints have this name"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(WrongEndpoints) as error:
        endpoints.load(settings(tmp_path, GOOD.replace(old, new)))

    assert told in str(error.value)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "canary"])
def test_a_bad_secret_is_refused_and_never_shown(tmp_path: Path, secret: str) -> None:
    with pytest.raises(WrongEndpoints) as error:
        endpoints.load(settings(tmp_path, secret=secret))

    assert "the secret crm" in str(error.value)
    rest = secret.removeprefix("whsec_")
    assert not rest or rest not in str(error.value)


def test_plain_http_is_for_development_only(tmp_path: Path) -> None:
    text = GOOD.replace("https://crm.example.com", "http://127.0.0.1:8080")

    assert endpoints.load(settings(tmp_path, text, dev=True))
    with pytest.raises(WrongEndpoints):
        endpoints.load(settings(tmp_path, text))
