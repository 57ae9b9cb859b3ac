"""An email request as SendGrid's JSON, held against SendGrid's own builder."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sendgrid.helpers import mail as official

from mailstream.domain.request import Address, Attachment, EmailRequest
from streams.provider import payload

ADA = Address("ada@example.com", "Ada")


def encoded(request: EmailRequest, *, sender: str | None = "noreply@example.com") -> dict[str, Any]:
    body, _ = payload.encode(request, email_id="em_1c2f9a3b_x", attempt=2, nonce="n0nce", sender=sender)
    return msgspec.json.decode(body)


def built_by_sendgrid(request: EmailRequest) -> dict[str, Any]:
    """The same request through ``sendgrid.helpers.mail``, as its documentation shows."""

    def mailbox(kind: type[official.Email], address: Address) -> official.Email:
        return kind(address.email, address.name)

    built = official.Mail()
    built.from_email = mailbox(official.From, request.from_) if request.from_ else official.From("noreply@example.com")
    personalization = official.Personalization()
    personalization.add_to(mailbox(official.To, request.to))
    for address in request.cc:
        personalization.add_cc(mailbox(official.Cc, address))
    for address in request.bcc:
        personalization.add_bcc(mailbox(official.Bcc, address))
    if request.provider_template is not None:
        built.template_id = official.TemplateId(request.provider_template)
        if request.data:
            personalization.dynamic_template_data = official.DynamicTemplateData(request.data)
    built.add_personalization(personalization)
    if request.reply_to is not None:
        built.reply_to = mailbox(official.ReplyTo, request.reply_to)
    if request.subject:
        built.subject = official.Subject(request.subject)
    if request.text:
        built.add_content(official.Content("text/plain", request.text))
    if request.html:
        built.add_content(official.Content("text/html", request.html))
    for name, value in request.headers.items():
        built.add_header(official.Header(name, value))
    for file in request.attachments:
        attachment = official.Attachment(official.FileContent(file.content), official.FileName(file.filename))
        if file.type is not None:
            attachment.file_type = official.FileType(file.type)
        if file.disposition is not None:
            attachment.disposition = official.Disposition(file.disposition)
        if file.content_id is not None:
            attachment.content_id = official.ContentId(file.content_id)
        built.add_attachment(attachment)
    for tag in request.tags:
        built.add_category(official.Category(tag))
    for name, value in (("ms_id", "em_1c2f9a3b_x"), ("ms_attempt", "2"), ("ms_nonce", "n0nce")):
        built.add_custom_arg(official.CustomArg(name, value))
    if request.test:
        built.mail_settings = official.MailSettings(sandbox_mode=official.SandBoxMode(enable=True))
    return built.get()


def in_any_order(mail: dict[str, Any]) -> dict[str, Any]:
    """SendGrid's builder turns the lists of tags and attachments round; ours keeps the order that was asked for."""
    return {
        **mail,
        "categories": sorted(mail.get("categories", [])),
        "attachments": sorted(mail.get("attachments", []), key=lambda attachment: sorted(attachment.items())),
    }


words = st.text(st.characters(codec="utf-8", exclude_characters=",;"), min_size=1, max_size=20)
names = st.none() | st.text(st.characters(categories=["L", "Zs"]), min_size=1, max_size=20)
locals_ = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)  # SendGrid's builder parses stranger addresses into others
mailboxes = st.builds(Address, email=locals_.map(lambda local: f"x{local}@example.com"), name=names)
requests = st.builds(
    EmailRequest,
    to=st.builds(Address, email=st.just("ada@example.com"), name=names),
    from_=st.none() | mailboxes,
    reply_to=st.none() | mailboxes,
    cc=st.lists(mailboxes.map(lambda a: Address(f"c{a.email}", a.name)), max_size=2,
                unique_by=lambda a: a.email.casefold()).map(tuple),
    bcc=st.lists(mailboxes.map(lambda a: Address(f"b{a.email}", a.name)), max_size=2,
                 unique_by=lambda a: a.email.casefold()).map(tuple),
    subject=words,
    text=st.none() | words,
    html=words,
    headers=st.dictionaries(st.sampled_from(["X-A", "X-B", "List-Unsubscribe"]), words, max_size=3),
    attachments=st.lists(st.builds(
        Attachment, filename=words, content=st.just("aGk="), type=st.none() | st.just("text/plain"),
        disposition=st.sampled_from([None, "inline", "attachment"]), content_id=st.none() | words,
    ), max_size=2).map(tuple),
    provider_template=st.none() | st.just("d-1"),
    data=st.dictionaries(words, words | st.integers(-1000, 1000) | st.booleans(), max_size=3),
    tags=st.lists(words, max_size=10, unique=True).map(tuple),
    test=st.booleans(),
)  # fmt: skip


@settings(max_examples=60)
@given(requests)
def test_the_json_is_what_sendgrids_own_builder_gives(request: EmailRequest) -> None:
    assert in_any_order(encoded(request)) == in_any_order(built_by_sendgrid(request))


def test_a_plain_email_has_exactly_these_members() -> None:
    request = EmailRequest(to=ADA, subject="Hello", text="Hi", html="<p>Hi</p>", tags=("welcome",))

    assert encoded(request) == {
        "personalizations": [{"to": [{"email": "ada@example.com", "name": "Ada"}]}],
        "from": {"email": "noreply@example.com"},
        "subject": "Hello",
        "content": [{"type": "text/plain", "value": "Hi"}, {"type": "text/html", "value": "<p>Hi</p>"}],
        "categories": ["welcome"],
        "custom_args": {"ms_id": "em_1c2f9a3b_x", "ms_attempt": "2", "ms_nonce": "n0nce"},
    }


def test_names_of_recipients_lose_the_signs_that_sendgrid_refuses() -> None:
    request = EmailRequest(
        to=Address("ada@example.com", "Lovelace, Ada; Countess"), cc=(Address("b@example.com", ";"),)
    )

    personalization = encoded(request)["personalizations"][0]

    assert personalization["to"] == [{"email": "ada@example.com", "name": "Lovelace Ada Countess"}]
    assert personalization["cc"] == [{"email": "b@example.com"}]


def test_an_address_is_named_once_in_a_call() -> None:
    request = EmailRequest(
        to=ADA, cc=(Address("ADA@example.com"), Address("b@example.com")), bcc=(Address("b@example.com"),)
    )

    personalization = encoded(request)["personalizations"][0]

    assert personalization["cc"] == [{"email": "b@example.com"}]
    assert "bcc" not in personalization


def test_tags_are_named_once_and_ten_at_most() -> None:
    request = EmailRequest(to=ADA, tags=("a", "a", *(f"t{n}" for n in range(20))))

    assert encoded(request)["categories"] == ["a", *(f"t{n}" for n in range(9))]


def test_nobody_can_forge_the_marks_of_an_email() -> None:
    request = EmailRequest(
        to=ADA, provider_options={"custom_args": {"ms_id": "em_ffffffff_other", "campaign": "7", "bad": 1}}
    )

    assert encoded(request)["custom_args"] == {
        "campaign": "7", "ms_id": "em_1c2f9a3b_x", "ms_attempt": "2", "ms_nonce": "n0nce",
    }  # fmt: skip


def test_only_known_options_pass_through() -> None:
    options = {
        "tracking_settings": {"click_tracking": {"enable": False}},
        "personalizations": [{"to": [{"email": "eve@example.com"}]}],
        "from": {"email": "eve@example.com"},
        "send_at": 1,
        "substitutions": {"-name-": "Ada"},
    }

    mail = encoded(EmailRequest(to=ADA, provider_options=options))

    assert mail["tracking_settings"] == {"click_tracking": {"enable": False}}
    assert mail["personalizations"] == [
        {"to": [{"email": "ada@example.com", "name": "Ada"}], "substitutions": {"-name-": "Ada"}}
    ]
    assert mail["from"] == {"email": "noreply@example.com"}
    assert "send_at" not in mail


@pytest.mark.parametrize(
    ("request_", "is_sandbox"),
    [
        pytest.param(EmailRequest(to=ADA), False, id="a real email is none"),
        pytest.param(EmailRequest(to=ADA, test=True), True, id="a test is one"),
        pytest.param(
            EmailRequest(to=ADA, provider_options={"mail_settings": {"sandbox_mode": {"enable": True}}}),
            True,
            id="whoever asks SendGrid for the sandbox gets it",
        ),
        pytest.param(
            EmailRequest(to=ADA, provider_options={"mail_settings": {"sandbox_mode": {"enable": False}}}),
            False,
            id="and whoever declines it does not",
        ),
    ],
)
def test_a_sandbox_request_says_so(request_: EmailRequest, is_sandbox: bool) -> None:
    body, told = payload.encode(request_, email_id="em_1c2f9a3b_x", attempt=1, nonce="n", sender="a@example.com")

    settings = msgspec.json.decode(body).get("mail_settings", {})
    assert settings.get("sandbox_mode", {}).get("enable", False) is is_sandbox
    assert told is is_sandbox
