"""An unsubscribe link works for the mail that it was in, for ever, and for nothing else."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.unsubscribe import Unsubscribe


def an_unsubscribe(key: str = "a key of sixteen or more") -> Unsubscribe:
    return Unsubscribe("https://mail.example.com/", SecretStr(key))


def a_request(**members: object) -> EmailRequest:
    return EmailRequest(to=Address("Ada@Example.com"), tenant="shop", subject="a", text="b", **members)  # type: ignore[arg-type]


def test_a_mail_gets_both_headers_when_it_asks_for_them() -> None:
    headers = an_unsubscribe().filled(a_request(unsubscribe=True, headers={"X-A": "1"})).headers

    assert headers["X-A"] == "1"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = headers["List-Unsubscribe"]
    assert link.startswith("<https://mail.example.com/unsubscribe/")
    assert an_unsubscribe().read(link.rpartition("/")[2].rstrip(">")) == ("shop", "ada@example.com")


def test_a_mail_that_does_not_ask_or_has_them_stays_as_it_is() -> None:
    plain, filled = a_request(), an_unsubscribe().filled(a_request(unsubscribe=True))

    assert an_unsubscribe().filled(plain) is plain
    assert an_unsubscribe().filled(filled) is filled
    assert Unsubscribe(None, None).filled(a_request(unsubscribe=True)).headers == {}


def test_another_key_believes_no_token() -> None:
    token = an_unsubscribe().token("shop", "ada@example.com")

    assert an_unsubscribe("another key of sixteen").read(token) is None
    assert Unsubscribe(None, None).read(token) is None


@given(place=st.integers(0, 200), other=st.text(max_size=3))
def test_a_changed_token_is_none(place: int, other: str) -> None:
    token = an_unsubscribe().token("shop", "ada@example.com")
    changed = token[: place % len(token)] + other + token[place % len(token) + 1 :]

    assert changed == token or an_unsubscribe().read(changed) is None
