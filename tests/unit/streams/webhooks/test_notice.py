import json
from datetime import UTC, datetime

import msgspec
import pytest
from standardwebhooks import Webhook

from mailstream.domain.status import EmailStatus, Status
from streams.webhooks.endpoints import Endpoint
from streams.webhooks.notice import (
    DELAYS,
    GIVE_UP_SECONDS,
    REFUSED_TRIES,
    EndpointVerdict,
    Notice,
    headers_of,
    meaning_of,
    notice_of,
    wait_seconds,
)  # fmt: skip
from tests.support import golden
from tests.unit.streams.webhooks.test_endpoints import SECRET

CRM = Endpoint(name="crm", url="https://crm.example.com", secrets=["crm"], tenant="shop")
SENT = golden.RECORDS["email.status.v1/sent"]
assert isinstance(SENT, EmailStatus)


def test_a_notice_says_where_the_email_stands_and_no_address() -> None:
    assert isinstance(SENT, EmailStatus)
    notice = notice_of(SENT, CRM)

    assert notice is not None
    said = json.loads(notice.body)
    assert said["type"] == "email.sent"
    assert said["data"]["id"] == SENT.id
    assert said["data"]["reference"] == "1042"
    assert "ada@" not in notice.body.decode()


def test_the_same_change_has_the_same_id_and_another_change_another() -> None:
    assert isinstance(SENT, EmailStatus)
    again = msgspec.structs.replace(SENT, writer="another", updated_at=datetime(2027, 1, 1, tzinfo=UTC))
    later = msgspec.structs.replace(SENT, rank=SENT.rank + 4)

    first, second, third = (notice_of(status, CRM) for status in (SENT, again, later))

    assert first is not None
    assert second is not None
    assert third is not None
    assert first.id == second.id != third.id


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"status": Status.QUEUED}])
def test_an_endpoint_hears_of_its_own_tenant_and_statuses_only(change: dict[str, object]) -> None:
    assert isinstance(SENT, EmailStatus)

    assert notice_of(msgspec.structs.replace(SENT, **change), CRM) is None


def test_the_signature_is_good_for_each_secret_during_a_rotation() -> None:
    other = "whsec_" + "b" * 44
    notice = Notice("msg_1", '{"ü": 1}'.encode())

    headers = headers_of(notice, [Webhook(secret) for secret in (SECRET, other)], datetime.now(UTC))

    for secret in (SECRET, other):
        assert Webhook(secret).verify(notice.body, headers) == {"ü": 1}


@pytest.mark.parametrize(
    ("code", "answer"),
    [(200, EndpointVerdict.TAKEN), (204, EndpointVerdict.TAKEN), (299, EndpointVerdict.TAKEN), (301, EndpointVerdict.AGAIN), (308, EndpointVerdict.AGAIN),
     (400, EndpointVerdict.REFUSED), (401, EndpointVerdict.AGAIN), (403, EndpointVerdict.AGAIN), (404, EndpointVerdict.AGAIN), (410, EndpointVerdict.GONE),
     (422, EndpointVerdict.REFUSED), (429, EndpointVerdict.AGAIN), (500, EndpointVerdict.AGAIN), (503, EndpointVerdict.AGAIN), (None, EndpointVerdict.AGAIN)],
)  # fmt: skip
def test_an_answer_means_one_thing(code: int | None, answer: EndpointVerdict) -> None:
    assert meaning_of(code) is answer


def test_an_endpoint_that_is_away_is_waited_for_a_day_and_a_refusal_is_not() -> None:
    waits = [wait_seconds(EndpointVerdict.AGAIN, tries, 0) for tries in range(1, 9)]

    assert waits == [*DELAYS, DELAYS[-1], DELAYS[-1], DELAYS[-1]]
    assert wait_seconds(EndpointVerdict.AGAIN, 100, GIVE_UP_SECONDS - 1) is not None
    assert wait_seconds(EndpointVerdict.AGAIN, 100, GIVE_UP_SECONDS) is None
    assert wait_seconds(EndpointVerdict.REFUSED, REFUSED_TRIES, 0) is None
