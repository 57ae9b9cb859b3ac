from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.errors import TemplateError
from mailstream.templates import catalog as module
from mailstream.templates.catalog import Rendered, Templates
from tests.support.domain_events import TEMPLATES

SHIPPED = {"order": "1042", "name": "Ada", "parcel": "P-1"}


def folder_with(tmp_path: Path, **files: str) -> Path:
    """A templates folder; ``subject`` and so on are files of welcome/1/en, others are paths with __ for /."""
    names = {"subject": "subject.txt", "text": "body.txt", "html": "body.html", "mjml": "body.mjml"}
    for name, content in files.items():
        path = tmp_path / (f"welcome/1/en/{names[name]}" if name in names else name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def welcome(tmp_path: Path, data: dict[str, object] | None = None, **files: str) -> Rendered:
    return Templates(folder_with(tmp_path, **{"subject": "Hi", **files})).render("welcome", data or {})


def test_the_example_gives_subject_text_and_html() -> None:
    mail = Templates(TEMPLATES).render("order-shipped", SHIPPED)

    assert mail.subject == "Your order 1042 is on its way"
    assert mail.text is not None
    assert "The parcel number is P-1." in mail.text
    assert mail.html is not None
    assert "<strong>P-1</strong>" in mail.html


@pytest.mark.parametrize(
    "value", ["{{ 7*7 }}", "<script>alert(1)</script>", "{% for x in y %}", "' onclick='x", "&amp;"]
)
def test_data_is_shown_and_never_run(value: str) -> None:
    mail = Templates(TEMPLATES).render("order-shipped", SHIPPED | {"parcel": value})

    assert mail.text is not None
    assert value in mail.text
    assert mail.html is not None
    assert "<script>" not in mail.html
    assert "49" not in mail.html


@pytest.mark.parametrize(
    ("asked", "got"),
    [("de", "de"), ("de_AT", "de-AT"), ("DE-at", "de-AT"), ("de-CH", "de"), ("fr", "en"), (None, "en"), ("", "en")],
)
def test_the_nearest_locale_is_taken(tmp_path: Path, asked: str | None, got: str) -> None:
    for locale in ("en", "de", "de-AT"):
        folder_with(tmp_path, **{f"a__1__{locale}__subject.txt": locale, f"a__1__{locale}__body.txt": "x"})

    assert Templates(tmp_path).render("a", {}, locale=asked).subject == got


def test_the_only_locale_is_taken_when_neither_the_asked_nor_english_is_there(tmp_path: Path) -> None:
    folder_with(tmp_path, **{"a__1__sv__subject.txt": "Hej", "a__1__sv__body.txt": "x"})

    assert Templates(tmp_path).render("a", {}, locale="de").subject == "Hej"


def test_the_newest_version_is_taken_by_number_unless_one_is_named(tmp_path: Path) -> None:
    for version in ("2", "9", "10"):
        folder_with(tmp_path, **{f"a__{version}__en__subject.txt": version, f"a__{version}__en__body.txt": "x"})
    found = Templates(tmp_path)

    assert found.render("a", {}).subject == "10"
    assert found.render("a@9", {}).subject == "9"
    assert found.has("a@2")
    assert not found.has("a@3")


def test_text_is_made_from_html_where_none_is_written(tmp_path: Path) -> None:
    html = (
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Hello&nbsp;Ada</h1><p>Track it\n <a href="
        '"https://x.example/p">here</a>.</p><ul><li>one</li><li>two</li></ul><img src="cid:a" alt="logo"></body></html>'
    )

    mail = welcome(tmp_path, html=html)

    assert mail.text == "Hello\xa0Ada\n\nTrack it here (https://x.example/p).\n\n- one\n- two\n\nlogo\n"


@pytest.mark.parametrize(
    ("part", "source", "data", "told"),
    [
        ("text", "a\n{{ customer.name }}", {"customer": {}}, "welcome/1/en/body.txt line 2: data has no customer.name"),
        ("text", "{{ customer.name }}", {}, "welcome/1/en/body.txt line 1: data has no customer"),
        ("html", "{{ a['b'].c }}", {"a": {"b": {}}}, "welcome/1/en/body.html line 1: data has no a.b.c"),
        ("subject", "{{ order }}", {"order": None}, "welcome/1/en/subject.txt line 1: data has no value for order"),
        ("text", "{% if x %}{% endif %}", {}, "welcome/1/en/body.txt line 1: data has no x"),
        ("text", "{% for i in items %}{{ i.n }}{% endfor %}", {"items": [{}]}, "line 1: data has no i.n"),
        ("text", "{{ 1 + name }}", {"name": "secret"}, "welcome/1/en/body.txt line 1: TypeError with this data"),
    ],
)
def test_missing_data_is_an_error_that_names_its_path_and_no_value(
    tmp_path: Path, part: str, source: str, data: dict[str, object], told: str
) -> None:
    with pytest.raises(TemplateError) as error:
        welcome(tmp_path, data, **{"text": "x", part: source})

    assert told in str(error.value)
    assert "secret" not in str(error.value)


def test_a_missing_member_of_an_included_file_is_named_there(tmp_path: Path) -> None:
    shared = {"_shared__footer.txt": "\n{{ shop }}"}

    with pytest.raises(TemplateError, match=r"_shared/footer\.txt line 2: data has no shop"):
        welcome(tmp_path, text="{% include '_shared/footer.txt' %}", **shared)


def test_optional_members_can_be_asked_for(tmp_path: Path) -> None:
    text = "{% if name %}{{ name }}{% else %}you{% endif %} {{ more | default('-') }}"

    assert welcome(tmp_path, {"name": None}, text=text).text == "you -"


@pytest.mark.parametrize("value", ["a\nBcc: b@example.com", "a\r", "\u2028", "a\u202eb", "\x00"])
def test_a_subject_with_control_characters_is_refused_and_not_mended(value: str) -> None:
    with pytest.raises(TemplateError, match="control character"):
        Templates(TEMPLATES).render("order-shipped", SHIPPED | {"order": f"x{value}y"})


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "java\nscript:x",
        "&#106;avascript:x",
        "http://x.example",
        "data:text/html,x",
        "//x.example",
    ],
)
def test_links_are_https_or_mailto(tmp_path: Path, href: str) -> None:
    with pytest.raises(TemplateError, match="a link"):
        welcome(tmp_path, html=f'<a href="{href}">x</a>')


def test_a_link_from_the_data_is_held_to_the_same(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="a link"):
        welcome(tmp_path, {"href": "javascript:alert(1)"}, html="<a class=x href={{ href }}>x</a>")


@pytest.mark.parametrize("href", ["https://x.example/?a=b&c", "mailto:a@example.com", "#top", "HTTPS://x.example", ""])
def test_usual_links_stand(tmp_path: Path, href: str) -> None:
    assert welcome(tmp_path, {"href": href}, html='<a href="{{ href }}">x</a>').html is not None


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x|attr('__class__') }}",
        "{{ x.format.__globals__ }}",
        "{{ range(10**9) | list }}",
        "{{ cycler }}",
        "{% set y = x.append(1) %}{{ items.append(1) }}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_a_template_reaches_nothing_but_its_data(tmp_path: Path, source: str) -> None:
    with pytest.raises(TemplateError):
        welcome(tmp_path, {"x": "text", "items": []}, text=source)


MJML = """<mjml><mj-body><mj-section><mj-column>{% for name in names %}<mj-text>Hello {{ name }}</mj-text>{% endfor %}
<mj-button href="{{ link }}">Track it</mj-button></mj-column></mj-section></mj-body></mjml>"""


def test_mjml_becomes_html_that_clients_lay_out_and_text(tmp_path: Path) -> None:
    mail = welcome(tmp_path, {"names": ["Ada", "<Bob>"], "link": "https://x.example/p"}, mjml=MJML)

    assert mail.html is not None
    assert "<table" in mail.html
    assert "Hello &lt;Bob&gt;" in mail.html
    assert mail.text == "Hello Ada\nHello <Bob>\n\nTrack it (https://x.example/p)\n"


@pytest.mark.parametrize(
    "mjml", ["<mjml><mj-body>", "hello", '<mjml><mj-body><mj-include path="/etc/passwd"/></mj-body></mjml>']
)
def test_what_is_no_mjml_is_a_mistake(tmp_path: Path, mjml: str) -> None:
    with pytest.raises(TemplateError, match=r"welcome/1/en/body\.mjml: this is not an MJML"):
        welcome(tmp_path, mjml=mjml)


def test_links_in_mjml_are_held_to_the_same(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="a link with a scheme"):
        welcome(tmp_path, {"names": [], "link": "javascript:alert(1)"}, mjml=MJML)


def test_a_style_sheet_moves_into_the_elements_and_media_rules_stay(tmp_path: Path) -> None:
    html = (
        "<html><head><style>p{color:red}@media(max-width:9px){p{color:blue}}</style></head><body><p>x</p></body></html>"
    )

    mail = welcome(tmp_path, html=html)

    assert mail.html is not None
    assert '<p style="color: red;">' in mail.html or '<p style="color:red">' in mail.html
    assert "@media" in mail.html


def test_no_sheet_is_read_from_a_disk_or_the_net(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.css"
    sheet.write_text("p { color: red }")
    source = f'<html><head><style></style><link rel="stylesheet" href="{sheet}"></head><body><p>x</p></body></html>'

    mail = welcome(tmp_path / "templates", html=source)

    assert mail.html is not None
    assert "red" not in mail.html


def test_a_mail_that_grows_without_end_is_stopped(tmp_path: Path) -> None:
    text = "{% for a in l %}{% for b in l %}{% for c in l %}0123456789{% endfor %}{% endfor %}{% endfor %}"

    with pytest.raises(TemplateError, match="becomes larger"):
        welcome(tmp_path, {"l": list(range(1000))}, text=text)


def test_templates_that_include_each_other_for_ever_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="too deep"):
        welcome(tmp_path, text="{% include '_shared/a.txt' %}", **{"_shared__a.txt": "{% include '_shared/a.txt' %}"})


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"subject": "{{ x", "text": "x"}, "welcome/1/en/subject.txt line 1"),
        ({"text": "x"}, "subject.txt is missing"),
        ({"subject": "x"}, "body.txt, body.html or body.mjml is needed"),
        ({"subject": "x", "text": "x", "welcome__latest__en__body.txt": "x"}, "welcome/latest/en/body.txt: expected"),
        ({"subject": "x", "text": "x", "welcome__1__en__notes.md": "x"}, "notes.md: expected"),
        ({"subject": "x", "text": "{{ x | nope }}"}, "No filter named 'nope'"),
    ],
)
def test_a_folder_that_cannot_be_used_says_so_at_the_start(tmp_path: Path, files: dict[str, str], told: str) -> None:
    with pytest.raises(TemplateError) as error:
        Templates(folder_with(tmp_path, **files))

    assert told in str(error.value)


def test_a_missing_folder_and_an_unknown_template_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="is not a folder"):
        Templates(tmp_path / "nowhere")
    with pytest.raises(TemplateError, match="no template of this name"):
        Templates(TEMPLATES).render("nope", {})
    with pytest.raises(TemplateError, match="no such version"):
        Templates(TEMPLATES).render("order-shipped@77", {})
    with pytest.raises(TemplateError, match="no template of this name"):
        Templates(TEMPLATES).render("../order-shipped", {})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"order": plain, "name": plain, "parcel": plain}) | st.dictionaries(st.text(), plain))
def test_any_data_gives_a_mail_or_a_template_error(data: dict[str, object]) -> None:
    try:
        mail = _examples.render("order-shipped", data)
    except TemplateError:
        return
    assert mail.subject.isprintable() or not module.is_unsafe(mail.subject)


_examples = Templates(TEMPLATES)
